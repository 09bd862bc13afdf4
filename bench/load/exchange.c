// SPDX-License-Identifier: Apache-2.0
/*
 * Requests and responses of HTTP between two ends of connections that are both this thread's: no scheduler, no other process and no
 * idle core has a part in what one costs. close=1: a connection for each. Prints the processor time of this thread.
 */
#define _GNU_SOURCE
#include "load.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define REQUEST "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: load\r\n\r\n"
#define RESPONSE \
	"HTTP/1.1 200 OK\r\nServer: load\r\nContent-Type: text/plain\r\nContent-Length: 75\r\n\r\n" \
	"The quick brown fox jumps over the lazy dog and runs on through the meadow.\n"

static int listener;
static struct sockaddr_storage server;
static int clients[CONNECTIONS_MAX], servers[CONNECTIONS_MAX];

static uint64_t thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static void listen_here(void)
{
	socklen_t length = sizeof(struct sockaddr_in);

	address(&server, 0);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&server, length) ||
	    listen(listener, 16) || getsockname(listener, (struct sockaddr *)&server, &length))
		die("listen");
}

static void open_one(long i)
{
	int one = 1;

	clients[i] = socket(AF_INET, SOCK_STREAM, 0);
	if (clients[i] < 0 ||
	    connect(clients[i], (struct sockaddr *)&server, sizeof(struct sockaddr_in)))
		die("connect");
	servers[i] = accept(listener, NULL, NULL);
	if (servers[i] < 0)
		die("accept");
	setsockopt(clients[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(servers[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void close_one(long i)
{
	close(servers[i]);
	close(clients[i]);
}

static void pass(int from, int to, const char *text, size_t length)
{
	char buffer[1024];

	if (send(from, text, length, 0) != (ssize_t)length ||
	    recv(to, buffer, sizeof(buffer), 0) != (ssize_t)length)
		die("exchange");
}

int exchange_load(void)
{
	long count = number("count", 10000, 100000000);
	long connections = number("connections", 16, CONNECTIONS_MAX);
	long each = number("close", 0, 1);
	uint64_t start;

	if (!connections)
		connections = 1;
	listen_here();
	for (long i = 0; i < connections && !each; i++)
		open_one(i);
	start = thread_ns();
	for (long n = 0; n < count; n++) {
		long i = each ? 0 : n % connections;

		if (each)
			open_one(i);
		pass(clients[i], servers[i], REQUEST, sizeof(REQUEST) - 1);
		pass(servers[i], clients[i], RESPONSE, sizeof(RESPONSE) - 1);
		if (each)
			close_one(i);
	}
	printf("{\"count\":%ld,\"ns\":%llu}\n", count, (unsigned long long)(thread_ns() - start));
	return 0;
}
