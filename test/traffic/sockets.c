// SPDX-License-Identifier: Apache-2.0
/*
 * TCP sockets that are not used as usual: handed from process to process, opened with data, refused by their own kernel; and
 * sockets that are not TCP at all. `as` names what is done, once.
 */
#define _GNU_SOURCE
#include "traffic.h"

#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define XFRM 6 /* NETLINK_XFRM, which is also IPPROTO_TCP */
#define DATAGRAMS 10

static char bytes[CHUNK];

static void put(int fd, long size)
{
	check(write(fd, bytes, size) == size, "write");
	counts.bytes_written += size;
}

static void take(int fd, long size)
{
	check(recv(fd, bytes, size, MSG_WAITALL) == size, "read");
	counts.bytes_read += size;
}

/* Waits for the peer's end. */
static void take_end(int fd)
{
	check(read(fd, bytes, sizeof(bytes)) == 0, "no end");
	close(fd);
}

static int tcp_listener(struct sockaddr_storage *at, long port)
{
	struct sockaddr_in *to = (struct sockaddr_in *)at;
	socklen_t length = option_address(at);
	int fd = socket(at->ss_family, SOCK_STREAM, 0), one = 1, queue = 16;

	to->sin_port = htons(port);
	check(fd >= 0, "socket");
	check(!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), "SO_REUSEADDR");
	while (bind(fd, (struct sockaddr *)at, length)) {
		check(port && errno == EADDRINUSE, "bind");
		to->sin_port = htons(++port);
	}
	check(!setsockopt(fd, SOL_TCP, TCP_FASTOPEN, &queue, sizeof(queue)), "TCP_FASTOPEN");
	check(!listen(fd, queue), "listen");
	check(!getsockname(fd, (struct sockaddr *)at, &length), "getsockname");
	report_ready(fd);
	return fd;
}

/* A child with counts of its own; 0 in the child. */
static pid_t child(void)
{
	pid_t pid = fork();

	check(pid >= 0, "fork");
	if (!pid) {
		bound_life();
		memset(&counts, 0, sizeof(counts));
	}
	return pid;
}

static void end_child(void)
{
	report_counts();
	exit(0);
}

static void await_child(pid_t pid)
{
	int status;

	check(waitpid(pid, &status, 0) == pid && status == 0, "a child");
}

static int connected(const struct sockaddr_storage *to)
{
	int fd = socket(to->ss_family, SOCK_STREAM, 0);

	check(fd >= 0, "socket");
	check(!connect(fd, (struct sockaddr *)to, sizeof(struct sockaddr_in)), "connect");
	counts.connections++;
	return fd;
}

/* A client that sends all at once and takes the answers. */
static pid_t client(const struct sockaddr_storage *to, long sent, long taken)
{
	pid_t pid = child();
	int fd;

	if (pid)
		return pid;
	fd = connected(to);
	put(fd, sent);
	take(fd, taken);
	take_end(fd);
	end_child();
	return 0;
}

static int accepted(int listener)
{
	int fd = accept(listener, NULL, NULL);

	check(fd >= 0, "accept");
	counts.connections++;
	return fd;
}

/* Half of what the client sends is there already when the second process takes over. */
static void hand_over(void)
{
	struct sockaddr_storage at;
	int listener = tcp_listener(&at, 0), fd;
	pid_t calling = client(&at, 3000, 3300), heir;

	fd = accepted(listener);
	recv(fd, bytes, 3000, MSG_PEEK | MSG_WAITALL);
	take(fd, 1000);
	put(fd, 1100);
	heir = child();
	if (!heir) {
		if (option_number("writes_first", 0, 1))
			put(fd, 200);
		take(fd, 2000);
		put(fd, option_number("writes_first", 0, 1) ? 2000 : 2200);
		end_child();
	}
	await_child(heir);
	close(fd);
	await_child(calling);
}

/* Two processes write in turns. */
static void take_turns(void)
{
	long rounds = option_number("rounds", 20, 1000);
	struct sockaddr_storage at;
	int listener = tcp_listener(&at, 0), fd, to_child[2], to_parent[2];
	pid_t calling = client(&at, 1, rounds * 1100), other;

	check(!pipe(to_child) && !pipe(to_parent), "pipe");
	fd = accepted(listener);
	take(fd, 1);
	other = child();
	for (long i = 0; i < rounds; i++) {
		char turn = 0;

		if (other) {
			put(fd, 1000);
			check(write(to_child[1], &turn, 1) == 1, "turn");
			check(read(to_parent[0], &turn, 1) == 1, "turn");
		} else {
			check(read(to_child[0], &turn, 1) == 1, "turn");
			put(fd, 100);
			check(write(to_parent[1], &turn, 1) == 1, "turn");
		}
	}
	if (!other)
		end_child();
	await_child(other);
	close(fd);
	await_child(calling);
}

/* A process that only looks: by=peek, or by=poll at an empty socket. before=1: before the one that reads and writes. */
static void look_on(void)
{
	bool peeks = option_is("by", "peek"), before = option_number("before", 0, 1);
	struct sockaddr_storage at;
	int listener = tcp_listener(&at, 0), fd;
	pid_t calling, other;

	calling = client(&at, 500, 600);
	fd = accepted(listener);
	recv(fd, bytes, 500, MSG_PEEK | MSG_WAITALL);
	if (before) {
		other = child(); /* it has the first call that moves anything */
		if (other) {
			await_child(other);
		} else {
			take(fd, 500);
			put(fd, 600);
			end_child();
		}
	} else {
		take(fd, peeks ? 400 : 500);
		other = child();
		if (!other) {
			recv(fd, bytes, 100, peeks ? MSG_PEEK : MSG_DONTWAIT);
			end_child();
		}
		await_child(other);
		if (peeks)
			take(fd, 100);
		put(fd, 600);
	}
	close(fd);
	await_child(calling);
}

static void fast_open_server(void)
{
	struct sockaddr_storage at;
	int listener = tcp_listener(&at, 0), fd = accepted(listener);

	take(fd, 100);
	put(fd, 200);
	report_event("open"); /* the handshake may not have ended yet */
	take(fd, 50);
	close(fd);
}

static void fast_open_client(void)
{
	struct sockaddr_storage to;
	socklen_t length = option_address(&to);
	int fd = socket(to.ss_family, SOCK_STREAM, 0);

	check(sendto(fd, bytes, 100, MSG_FASTOPEN, (struct sockaddr *)&to, length) == 100,
	      "MSG_FASTOPEN");
	counts.connections++;
	counts.bytes_written += 100;
	take(fd, 200);
	put(fd, 50);
	take_end(fd);
}

/* connect() leaves the SYN to the first write, which never comes. */
static void fast_open_unused(void)
{
	struct sockaddr_storage to;
	socklen_t length = option_address(&to);
	int fd = socket(to.ss_family, SOCK_STREAM, 0), one = 1;

	check(!setsockopt(fd, SOL_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)),
	      "TCP_FASTOPEN_CONNECT");
	check(!connect(fd, (struct sockaddr *)&to, length), "connect");
	close(fd);
}

/* The second connection would have both ends of the first. */
static void take_twice(void)
{
	struct sockaddr_storage at;
	struct sockaddr_in here;
	socklen_t length = sizeof(here);
	int listener = tcp_listener(&at, 0), fd = connected(&at), other = accepted(listener);
	int second, one = 1;

	check(!getsockname(fd, (struct sockaddr *)&here, &length), "getsockname");
	check(!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), "SO_REUSEADDR");
	second = socket(AF_INET, SOCK_STREAM, 0);
	check(!setsockopt(second, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), "SO_REUSEADDR");
	check(!bind(second, (struct sockaddr *)&here, length), "bind");
	check(connect(second, (struct sockaddr *)&at, length) < 0, "connected twice");
	count_error(errno);
	close(second);
	close(fd);
	close(other);
}

/*
 * Connections whose listener, at a port of `from` or above, is gone, held until the input ends: one with a port of connect()'s
 * choice, one of bind()'s.
 */
static void orphan(void)
{
	struct sockaddr_storage at;
	int listener = tcp_listener(&at, option_number("from", 8000, 65535)), fds[4];
	struct sockaddr_in here = { .sin_family = AF_INET };

	fds[0] = connected(&at);
	fds[1] = accepted(listener);
	fds[2] = socket(AF_INET, SOCK_STREAM, 0);
	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check(!bind(fds[2], (struct sockaddr *)&here, sizeof(here)), "bind");
	check(!connect(fds[2], (struct sockaddr *)&at, sizeof(here)), "connect");
	fds[3] = accepted(listener);
	close(listener);
	for (int i = 0; i < 4; i += 2) {
		put(fds[i], 100);
		take(fds[i + 1], 100);
	}
	report_event("open");
	while (wait_for_word())
		;
}

static void netlink(void)
{
	struct sockaddr_nl to = { .nl_family = AF_NETLINK };
	struct nlmsghdr nothing = { .nlmsg_len = sizeof(nothing), .nlmsg_type = NLMSG_NOOP };
	int fd = socket(AF_NETLINK, SOCK_RAW, XFRM);

	if (fd >= 0) { /* some kernels have no XFRM */
		check(!connect(fd, (struct sockaddr *)&to, sizeof(to)), "connect");
		check(send(fd, &nothing, sizeof(nothing), 0) == sizeof(nothing), "send");
	}
	report_event("open");
	wait_for_word();
}

static void raw_tcp(void)
{
	struct tcphdr header = { .source = htons(1), .dest = htons(1), .doff = 5, .rst = 1 };
	struct sockaddr_storage to;
	socklen_t length = option_address(&to);
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_TCP);

	check(fd >= 0, "SOCK_RAW");
	check(!connect(fd, (struct sockaddr *)&to, length), "connect");
	check(send(fd, &header, sizeof(header), 0) == sizeof(header), "send");
	report_event("open");
	wait_for_word();
}

/* Reads what passes between two UDP sockets. */
static void raw_udp(void)
{
	int raw = socket(AF_INET, SOCK_RAW, IPPROTO_UDP), pair[2];
	struct sockaddr_storage at;

	check(raw >= 0, "SOCK_RAW");
	udp_pair(pair, &at);
	report_ready(pair[1]);
	for (int i = 0; i < DATAGRAMS; i++) {
		send(pair[0], bytes, 100, 0);
		recv(pair[1], bytes, 100, 0);
		check(recv(raw, bytes, sizeof(bytes), 0) > 100, "raw");
	}
}

static const struct {
	const char *name;
	void (*run)(void);
} kinds[] = {
	{ "hand_over", hand_over },
	{ "take_turns", take_turns },
	{ "look_on", look_on },
	{ "fast_open_server", fast_open_server },
	{ "fast_open_client", fast_open_client },
	{ "fast_open_unused", fast_open_unused },
	{ "take_twice", take_twice },
	{ "orphan", orphan },
	{ "netlink", netlink },
	{ "raw_tcp", raw_tcp },
	{ "raw_udp", raw_udp },
	{ "udp_shared", udp_shared },
	{ "udp_idle", udp_idle },
	{ "udp_unnamed", udp_unnamed },
	{ "udp_source", udp_source },
	{ "udp_peek", udp_peek },
};

int run_sockets(void)
{
	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!option_is("as", kinds[i].name))
			continue;
		kinds[i].run();
		report_counts();
		return 0;
	}
	check(false, "as=");
	return 2;
}
