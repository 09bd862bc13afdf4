// SPDX-License-Identifier: Apache-2.0
/* UDP sockets that are not used as usual; sockets.c names them. Datagrams have 10 bytes one way and 20 the other. */
#define _GNU_SOURCE
#include "traffic.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ASKED 10
#define ANSWERED 20

static char bytes[CHUNK];

static void sent(ssize_t length, long expected)
{
	check(length == expected, "send");
	counts.datagrams_written++;
	counts.bytes_written += length;
}

static void received(ssize_t length, long expected)
{
	check(length == expected, "receive");
	counts.datagrams_read++;
	counts.bytes_read += length;
}

/* pair[1] is bound at `at`, of host=; pair[0] is connected to it. */
void udp_pair(int *pair, struct sockaddr_storage *at)
{
	socklen_t length = option_address(at);

	for (int i = 0; i < 2; i++) {
		pair[i] = socket(at->ss_family, SOCK_DGRAM, 0);
		check(pair[i] >= 0, "socket");
	}
	check(!bind(pair[1], (struct sockaddr *)at, length), "bind");
	check(!getsockname(pair[1], (struct sockaddr *)at, &length), "getsockname");
	check(!connect(pair[0], (struct sockaddr *)at, length), "connect");
}

/* Both send from one socket to one peer. */
void udp_shared(void)
{
	struct sockaddr_storage at;
	int pair[2], status;
	pid_t pid;

	udp_pair(pair, &at);
	report_ready(pair[1]);
	for (int i = 0; i < 100; i++)
		sent(send(pair[0], bytes, ASKED, 0), ASKED);
	pid = fork();
	check(pid >= 0, "fork");
	if (!pid) {
		bound_life();
		memset(&counts, 0, sizeof(counts));
		for (int i = 0; i < 50; i++)
			sent(send(pair[0], bytes, ASKED, 0), ASKED);
		report_counts();
		exit(0);
	}
	check(waitpid(pid, &status, 0) == pid && status == 0, "a child");
}

static void answer(int fd)
{
	struct sockaddr_storage from;
	socklen_t length = sizeof(from);

	received(recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &length), ASKED);
	sent(sendto(fd, bytes, ANSWERED, 0, (struct sockaddr *)&from, length), ANSWERED);
}

/* Asks who it is from: else nobody can tell the flow. */
static void take_answer(int fd)
{
	struct sockaddr_storage from;
	socklen_t length = sizeof(from);

	received(recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &length),
		 ANSWERED);
}

/* The client asks, and the server has more to say at each word. */
void udp_idle(void)
{
	struct sockaddr_storage at, from;
	socklen_t length = sizeof(from);
	int pair[2];

	udp_pair(pair, &at);
	report_ready(pair[1]);
	sent(send(pair[0], bytes, ASKED, 0), ASKED);
	received(recvfrom(pair[1], bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &length),
		 ASKED);
	report_event("open");
	while (wait_for_word()) {
		sent(sendto(pair[1], bytes, ANSWERED, 0, (struct sockaddr *)&from, length),
		     ANSWERED);
		received(recv(pair[0], bytes, sizeof(bytes), 0), ANSWERED);
		report_event("exchanged");
	}
}

/* To the unspecified address; from=: the client's own, if it is bound. */
void udp_unnamed(void)
{
	struct sockaddr_storage at, to;
	socklen_t length = option_address(&to);
	const char *own = option("from", NULL);
	struct sockaddr_in from = { .sin_family = AF_INET };
	int pair[2], fd = socket(to.ss_family, SOCK_DGRAM, 0);

	udp_pair(pair, &at);
	report_ready(pair[1]);
	if (own) {
		check(inet_pton(AF_INET, own, &from.sin_addr) == 1, own);
		check(!bind(fd, (struct sockaddr *)&from, sizeof(from)), "bind");
	}
	if (to.ss_family == AF_INET) {
		((struct sockaddr_in *)&to)->sin_addr.s_addr = 0;
		((struct sockaddr_in *)&to)->sin_port = ((struct sockaddr_in *)&at)->sin_port;
	} else {
		((struct sockaddr_in6 *)&to)->sin6_addr = in6addr_any;
		((struct sockaddr_in6 *)&to)->sin6_port = ((struct sockaddr_in6 *)&at)->sin6_port;
	}
	sent(sendto(fd, bytes, ASKED, 0, (struct sockaddr *)&to, length), ASKED);
	answer(pair[1]);
	take_answer(fd);
}

/* The client names its own address (from=) with the datagram alone. */
void udp_source(void)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control = {};
	struct iovec part = { bytes, ASKED };
	struct sockaddr_storage at;
	struct msghdr message = { .msg_name = &at, .msg_iov = &part, .msg_iovlen = 1,
				  .msg_control = &control };
	int pair[2], fd;

	udp_pair(pair, &at);
	report_ready(pair[1]);
	fd = socket(at.ss_family, SOCK_DGRAM, 0);
	if (at.ss_family == AF_INET) {
		struct in_pktinfo *info = (struct in_pktinfo *)CMSG_DATA(&control.head);

		control.head.cmsg_level = SOL_IP;
		control.head.cmsg_type = IP_PKTINFO;
		control.head.cmsg_len = CMSG_LEN(sizeof(*info));
		check(inet_pton(AF_INET, option("from", ""), &info->ipi_spec_dst) == 1, "from");
		message.msg_controllen = CMSG_SPACE(sizeof(*info));
		message.msg_namelen = sizeof(struct sockaddr_in);
	} else {
		struct in6_pktinfo *info = (struct in6_pktinfo *)CMSG_DATA(&control.head);

		control.head.cmsg_level = SOL_IPV6;
		control.head.cmsg_type = IPV6_PKTINFO;
		control.head.cmsg_len = CMSG_LEN(sizeof(*info));
		check(inet_pton(AF_INET6, option("from", ""), &info->ipi6_addr) == 1, "from");
		message.msg_controllen = CMSG_SPACE(sizeof(*info));
		message.msg_namelen = sizeof(struct sockaddr_in6);
	}
	sent(sendmsg(fd, &message, 0), ASKED);
	answer(pair[1]);
	take_answer(fd);
}

/* Looks at who sent, then connects to another and sends there. */
void udp_peek(void)
{
	struct sockaddr_storage at, other_at, from;
	socklen_t length = sizeof(from);
	int pair[2], other[2];

	udp_pair(pair, &at);
	udp_pair(other, &other_at);
	report_ready(other[1]);
	check(send(pair[0], bytes, ASKED, 0) == ASKED, "send");
	check(recvfrom(pair[1], bytes, sizeof(bytes), MSG_PEEK, (struct sockaddr *)&from,
		       &length) == ASKED, "peek");
	check(!connect(pair[1], (struct sockaddr *)&other_at, length), "connect");
	sent(send(pair[1], bytes, ANSWERED, 0), ANSWERED);
}
