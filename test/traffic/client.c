// SPDX-License-Identifier: Apache-2.0
/*
 * The TCP client: `connections` in `threads`; `as=child` from children; `as=inherit`: sockets made by the parent and
 * connected by a child; `as=handover`: connected by the parent, used by a child; `as=nonblocking`; `as=abandon`: closed
 * before connect has an answer; `as=hold`: opens all, then does an exchange on each for every line on standard input.
 */
#define _GNU_SOURCE
#include "traffic.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS_MAX 64
#define WAIT_MS 30000

struct client {
	struct sockaddr_storage to;
	socklen_t to_length;
	struct exchange how;
	bool server_closes;
	bool nonblocking;
	bool abandon;
	int syn_retries; /* 0: the system's */
	long connections; /* of one thread or child */
};

static int make_socket(const struct client *client)
{
	int fd = socket(client->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check(fd >= 0, "socket");
	if (client->syn_retries)
		check(!setsockopt(fd, SOL_TCP, TCP_SYNCNT, &client->syn_retries, sizeof(int)),
		      "TCP_SYNCNT");
	return fd;
}

static void set_nonblocking(int fd, int on)
{
	check(!ioctl(fd, FIONBIO, &on), "FIONBIO");
}

/* Begins, waits until the socket can be written, and takes the outcome from SO_ERROR. */
static int connect_nonblocking(const struct client *client, int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLOUT };
	socklen_t length = sizeof(int);
	int failed = 0;

	set_nonblocking(fd, 1);
	if (connect(fd, (struct sockaddr *)&client->to, client->to_length) && errno != EINPROGRESS)
		return errno;
	if (client->abandon)
		return ECANCELED;
	if (poll(&ready, 1, WAIT_MS) != 1)
		return ETIME;
	check(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &length), "SO_ERROR");
	set_nonblocking(fd, 0);
	return failed;
}

static bool open_connection(const struct client *client, int fd)
{
	int failed = 0;

	if (client->nonblocking || client->abandon)
		failed = connect_nonblocking(client, fd);
	else if (connect(fd, (struct sockaddr *)&client->to, client->to_length))
		failed = errno;
	if (failed)
		count_error(failed);
	else
		counts.connections++;
	return !failed;
}

/* A request and its response; false: the peer or an error ended it before. */
static bool exchange_once(const struct client *client, int fd)
{
	const struct exchange *how = &client->how;
	long left = how->response;

	if (!put_bytes(fd, how->request, how))
		return false;
	if (how->half_close)
		shutdown(fd, SHUT_WR);
	while (left > 0) {
		long got = take_bytes(fd, left, how->by_splice);

		if (got <= 0)
			return false;
		left -= got;
	}
	return true;
}

static void use_connection(const struct client *client, int fd)
{
	char byte;

	if (client->how.unread) {
		if (put_bytes(fd, client->how.request, &client->how))
			recv(fd, &byte, 1, MSG_PEEK); /* the response is there */
		close(fd);
		return;
	}
	if (exchange_once(client, fd) && (client->server_closes || client->how.half_close))
		take_bytes(fd, CHUNK, client->how.by_splice); /* its end */
	close_socket(fd, &client->how);
}

static void *run_connections(void *with)
{
	const struct client *client = with;

	for (long i = 0; i < client->connections; i++) {
		int fd = make_socket(client);

		if (open_connection(client, fd))
			use_connection(client, fd);
		else
			close(fd);
	}
	return NULL;
}

static void run_threads(struct client *client, int threads)
{
	pthread_t ids[WORKERS_MAX];

	for (int i = 0; i < threads; i++)
		check(!pthread_create(&ids[i], NULL, run_connections, client), "pthread_create");
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
}

static void wait_for_child(void)
{
	int status;

	check(wait(&status) > 0 && WIFEXITED(status) && !WEXITSTATUS(status), "a child");
}

static void run_children(struct client *client, int children)
{
	for (int i = 0; i < children; i++) {
		if (fork() > 0)
			continue;
		bound_life();
		run_connections(client);
		report_counts();
		_exit(0);
	}
	for (int i = 0; i < children; i++)
		wait_for_child();
}

/* Sockets of the parent, used by a child; `connected` tells who connects them. */
static void run_inherited(struct client *client, bool connected)
{
	int *fds = calloc(client->connections, sizeof(int));
	pid_t child;

	check(fds, "calloc");
	for (long i = 0; i < client->connections; i++) {
		fds[i] = make_socket(client);
		if (connected)
			check(open_connection(client, fds[i]), "connect");
	}
	child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		bound_life();
		counts.connections = 0;
		for (long i = 0; i < client->connections; i++) {
			if (connected || open_connection(client, fds[i]))
				use_connection(client, fds[i]);
		}
		report_counts();
		_exit(0);
	}
	for (long i = 0; i < client->connections; i++)
		close(fds[i]);
	wait_for_child();
	free(fds);
}

/* Opens all, and goes on line by line; the end of standard input closes them. */
static void run_held(struct client *client)
{
	int *fds = calloc(client->connections, sizeof(int));

	check(fds, "calloc");
	for (long i = 0; i < client->connections; i++) {
		fds[i] = make_socket(client);
		check(open_connection(client, fds[i]), "connect");
	}
	report_event("open");
	while (wait_for_word()) {
		for (long i = 0; i < client->connections; i++)
			check(exchange_once(client, fds[i]), "exchange");
		report_event("exchanged");
	}
	for (long i = 0; i < client->connections; i++)
		close_socket(fds[i], &client->how);
	free(fds);
}

int run_client(void)
{
	int children = option_number("children", 1, WORKERS_MAX);
	int workers = option_number("threads", children, WORKERS_MAX);
	struct client client = {
		.how = option_exchange(),
		.server_closes = option_is("close", "server"),
		.nonblocking = option_is("as", "nonblocking"),
		.abandon = option_is("as", "abandon"),
		.syn_retries = option_number("syn_retries", 0, 127),
	};

	client.to_length = option_address(&client.to);
	client.connections = option_number("connections", 1, 1 << 24) / workers;
	errno = EINVAL;
	check(client.connections * workers == option_number("connections", 1, 1 << 24),
	      "connections must be a multiple of the workers");
	if (option_is("as", "child"))
		run_children(&client, workers);
	else if (option_is("as", "inherit") || option_is("as", "handover"))
		run_inherited(&client, option_is("as", "handover"));
	else if (option_is("as", "hold"))
		run_held(&client);
	else
		run_threads(&client, workers);
	report_counts();
	return 0;
}
