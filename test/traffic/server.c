// SPDX-License-Identifier: Apache-2.0
/*
 * The TCP server, in five ways to come by its sockets: `single` process, `threads`, `prefork` (children accept from the
 * listener they inherit), `pass` (the parent accepts and hands over by SCM_RIGHTS), `exec` (accepts half, calls exec and
 * goes on). It ends when `connections` were accepted and all of them have ended. `drop=1`: listens and never accepts.
 */
#define _GNU_SOURCE
#include "traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS_MAX 64
#define EVENTS_MAX 64
#define TICK_MS 20
#define HIGH_FD 900

struct server {
	int listen_fd; /* -1: sockets come over `pass_fd` */
	int pass_fd;
	long connections; /* of all processes together */
	bool close_first; /* after the response; else when the client has closed */
	struct exchange how;
	_Atomic long *accepted; /* by all processes together */
};

/* Bytes of the request that has begun, by descriptor. */
static long received[FDS_MAX];

static void watch(int epoll_fd, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	check(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

/* One step of a connection; false: it has ended. */
static bool on_readable(const struct server *server, int fd)
{
	const struct exchange *how = &server->how;
	long got;

	if (how->unread)
		return false;
	got = take_bytes(fd, CHUNK, how->by_splice);
	if (got > 0)
		received[fd] += got;
	while (got > 0 && !how->half_close && received[fd] >= how->request) {
		received[fd] -= how->request;
		if (put_bytes(fd, how->response, how) && !server->close_first && !how->reset)
			continue;
		got = 0;
	}
	if (got > 0)
		return true;
	if (how->half_close && got == 0)
		put_bytes(fd, how->response, how);
	return false;
}

/* Out of epoll first: where another process still holds the socket, epoll would go on reporting a closed descriptor. */
static void end_connection(const struct server *server, int epoll_fd, int fd)
{
	check(!epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL), "epoll_ctl");
	close_socket(fd, &server->how);
}

static int accept_one(const struct server *server)
{
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return -1; /* another worker was first */
	check(fd < FDS_MAX, "descriptors");
	(*server->accepted)++;
	return fd;
}

/* A descriptor over the Unix socket; -1: none now, -2: there will be none. */
static int receive_one(int pass_fd)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t got = recvmsg(pass_fd, &message, MSG_DONTWAIT);
	int fd;

	if (got == 0)
		return -2;
	if (got < 0)
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

static void send_one(int pass_fd, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	check(sendmsg(pass_fd, &message, 0) == 1, "sendmsg");
	close(fd);
}

/* Serves until the last connection of all has been accepted and the last of this thread has ended. */
static void serve(const struct server *server)
{
	int source = server->listen_fd >= 0 ? server->listen_fd : server->pass_fd;
	struct epoll_event events[EVENTS_MAX];
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	bool more = true;
	long open = 0;

	watch(epoll_fd, source, server->listen_fd >= 0 ? EPOLLIN | EPOLLEXCLUSIVE : EPOLLIN);
	while (more || open > 0) {
		int count = epoll_wait(epoll_fd, events, EVENTS_MAX, TICK_MS);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;

			if (fd != source) {
				if (on_readable(server, fd))
					continue;
				end_connection(server, epoll_fd, fd);
				open--;
				continue;
			}
			fd = server->listen_fd >= 0 ? accept_one(server) : receive_one(source);
			if (fd == -2)
				more = false;
			if (fd < 0)
				continue;
			counts.connections++;
			received[fd] = 0;
			open++;
			watch(epoll_fd, fd, EPOLLIN);
		}
		if (server->listen_fd >= 0 && *server->accepted >= server->connections)
			more = false;
		if (!more) /* an error when it is out already */
			epoll_ctl(epoll_fd, EPOLL_CTL_DEL, source, NULL);
	}
	close(epoll_fd);
}

static void *serve_thread(void *server)
{
	serve(server);
	return NULL;
}

static void serve_threads(struct server *server, int workers)
{
	pthread_t threads[WORKERS_MAX];

	for (int i = 0; i < workers; i++)
		check(!pthread_create(&threads[i], NULL, serve_thread, server), "pthread_create");
	for (int i = 0; i < workers; i++)
		pthread_join(threads[i], NULL);
}

static void fork_worker(struct server *server)
{
	pid_t child = fork();

	check(child >= 0, "fork");
	if (child > 0)
		return;
	bound_life();
	serve(server);
	report_counts();
	_exit(0);
}

static void wait_for_workers(int workers)
{
	for (int i = 0; i < workers; i++) {
		int status;

		check(wait(&status) > 0 && WIFEXITED(status) && !WEXITSTATUS(status), "a worker");
	}
}

/* The parent accepts and reads nothing; its children get the sockets in turn. */
static void serve_passing(struct server *server, int workers)
{
	int ends[WORKERS_MAX][2];

	for (int i = 0; i < workers; i++) {
		struct server child = *server;

		check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends[i]), "socketpair");
		child.listen_fd = -1;
		child.pass_fd = ends[i][1];
		if (fork() == 0) {
			bound_life();
			for (int j = 0; j <= i; j++)
				close(ends[j][0]);
			close(server->listen_fd);
			serve(&child);
			report_counts();
			_exit(0);
		}
		close(ends[i][1]);
	}
	fcntl(server->listen_fd, F_SETFL, 0);
	for (long i = 0; i < server->connections; i++) {
		int fd = accept_one(server);

		check(fd >= 0, "accept");
		send_one(ends[i % workers][0], fd);
	}
	for (int i = 0; i < workers; i++)
		close(ends[i][0]);
	wait_for_workers(workers);
}

/* Half of the connections, then exec of the program `heir`, which inherits the listener. */
static void serve_and_exec(struct server *server)
{
	long rest = server->connections - server->connections / 2;
	char fd[32], left[32], request[32], response[32];

	server->connections /= 2;
	serve(server);
	report_counts();
	snprintf(fd, sizeof(fd), "listen_fd=%d", server->listen_fd);
	snprintf(left, sizeof(left), "connections=%ld", rest);
	snprintf(request, sizeof(request), "request=%ld", server->how.request);
	snprintf(response, sizeof(response), "response=%ld", server->how.response);
	execl(option("heir", ""), "traffic", "server", fd, left, request, response, NULL);
	check(false, "exec");
}

static int open_listener(void)
{
	struct sockaddr_storage address;
	socklen_t length = option_address(&address);
	int inherited = option_number("listen_fd", 0, FDS_MAX);
	int off = 0, on = 1, fd;

	if (inherited)
		return inherited;
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	check(fd >= 0, "socket");
	if (address.ss_family == AF_INET6)
		setsockopt(fd, SOL_IPV6, 26 /* IPV6_V6ONLY */, &off, sizeof(off));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (option_number("high", 0, 1)) { /* accepted sockets then get lower numbers */
		check(dup2(fd, HIGH_FD) == HIGH_FD, "dup2");
		close(fd);
		fd = HIGH_FD;
	}
	check(!bind(fd, (struct sockaddr *)&address, length), "bind");
	check(!listen(fd, option_number("backlog", 4096, 65535)), "listen");
	report_ready(fd);
	return fd;
}

int run_server(void)
{
	struct server server = {
		.listen_fd = open_listener(),
		.connections = option_number("connections", 1, 1 << 24),
		.close_first = option_is("close", "server"),
		.how = option_exchange(),
		.accepted = mmap(NULL, sizeof(_Atomic long), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0),
	};
	int workers = option_number("workers", 1, WORKERS_MAX);

	check(server.accepted != MAP_FAILED, "mmap");
	if (option_number("drop", 0, 1)) {
		wait_for_word();
	} else if (option_is("as", "threads")) {
		serve_threads(&server, workers);
	} else if (option_is("as", "prefork")) {
		for (int i = 0; i < workers; i++)
			fork_worker(&server);
		wait_for_workers(workers);
	} else if (option_is("as", "pass")) {
		serve_passing(&server, workers);
	} else if (option_is("as", "exec")) {
		serve_and_exec(&server);
	} else {
		serve(&server);
	}
	close(server.listen_fd);
	report_counts();
	return 0;
}
