// SPDX-License-Identifier: Apache-2.0
/* UDP ping-pong between threads of this process: `count` datagrams of `size` bytes there, and as many back. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#define SIZE_MAX_BYTES 1400

static int server_fd;
static struct sockaddr_in server;
static long share, size;
static bool connected;
static atomic_long pongs, lost;
static uint64_t end_ns;

static int udp_socket(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	struct timeval patience = { .tv_usec = 200000 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)))
		die("a UDP socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* Ends by its parent's exit. */
static void *echo(void *nothing)
{
	char text[SIZE_MAX_BYTES];

	(void)nothing;
	for (;;) {
		struct sockaddr_in peer;
		struct sockaddr *to = (struct sockaddr *)&peer;
		socklen_t length = sizeof(peer);
		ssize_t got = recvfrom(server_fd, text, sizeof(text), 0, to, &length);

		if (got >= 0)
			sendto(server_fd, text, got, 0, to, length);
	}
	return NULL;
}

static void *client(void *nothing)
{
	char text[SIZE_MAX_BYTES] = "";
	int fd = udp_socket();

	(void)nothing;
	if (connected && connect(fd, (struct sockaddr *)&server, sizeof(server)))
		die("connect");
	for (long i = 0; i < share && now_ns() < end_ns; i++) {
		if (connected)
			send(fd, text, size, 0);
		else
			sendto(fd, text, size, 0, (struct sockaddr *)&server, sizeof(server));
		if (recv(fd, text, sizeof(text), 0) >= 0)
			pongs++;
		else
			lost++;
	}
	close(fd);
	return NULL;
}

int udp_load(void)
{
	long threads = number("threads", 2, THREADS_MAX);
	uint64_t start = now_ns();
	socklen_t length = sizeof(server);
	pthread_t ids[THREADS_MAX], echoer;

	size = number("size", 100, SIZE_MAX_BYTES);
	share = number("count", 100000, 10000000) / threads;
	connected = number("connected", 0, 1);
	end_ns = start + number("seconds", 5, SECONDS_MAX) * 1000000000ULL;
	server_fd = udp_socket();
	getsockname(server_fd, (struct sockaddr *)&server, &length);
	if (pthread_create(&echoer, NULL, echo, NULL))
		die("pthread_create");
	for (long i = 0; i < threads; i++) {
		if (pthread_create(&ids[i], NULL, client, NULL))
			die("pthread_create");
	}
	for (long i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	printf("{\"round_trips\":%ld,\"lost\":%ld,\"seconds\":%.6f,\"cpu_us\":%.0f}\n", pongs, lost,
	       (now_ns() - start) / 1e9, cpu_us(RUSAGE_SELF));
	return 0;
}
