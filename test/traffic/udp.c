// SPDX-License-Identifier: Apache-2.0
/*
 * UDP both ways. The client sends `datagrams` of `size` bytes from each of its `sockets`, `batch` at a time, and with
 * reply=1 reads as many before it goes on, so that no buffer runs full. `call` names the system call of either side:
 * read (and write), recv (and send), recvfrom, recvmsg, recvmmsg.
 */
#define _GNU_SOURCE
#include "traffic.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define BATCH_MAX 32
#define SOCKETS_MAX 1024
#define SIZE_MAX_UDP 65507
#define WAIT_MS 10000

struct udp {
	struct sockaddr_storage to;
	socklen_t to_length;
	const char *call;
	bool connected;
	bool reply;
	bool peek;
	long size;
	long batch;
	long datagrams;
};

static char bytes[SIZE_MAX_UDP];
static char sinks[BATCH_MAX][SIZE_MAX_UDP];

static struct udp option_udp(void)
{
	struct udp udp = {
		.call = option("call", "recvfrom"),
		.connected = option_number("connected", 0, 1),
		.reply = option_number("reply", 0, 1),
		.peek = option_number("peek", 0, 1),
		.size = option_number("size", 100, SIZE_MAX_UDP),
		.batch = option_number("batch", 8, BATCH_MAX),
		.datagrams = option_number("datagrams", 1, 1 << 24),
	};

	udp.to_length = option_address(&udp.to);
	return udp;
}

static bool calls(const struct udp *udp, const char *name)
{
	return !strcmp(udp->call, name);
}

static void count_sent(long datagrams, long each)
{
	check(datagrams >= 0 && each >= 0, "send");
	counts.datagrams_written += datagrams;
	counts.bytes_written += datagrams * each;
}

static void send_by_message(const struct udp *udp, int fd, long count, struct sockaddr *to,
			    socklen_t length)
{
	struct iovec part = { bytes, udp->size };
	struct msghdr one = { .msg_name = to, .msg_namelen = length, .msg_iov = &part,
			      .msg_iovlen = 1 };
	struct mmsghdr many[BATCH_MAX];

	if (calls(udp, "recvmsg")) {
		count_sent(1, sendmsg(fd, &one, 0));
		return;
	}
	for (long i = 0; i < count; i++)
		many[i].msg_hdr = one;
	count_sent(sendmmsg(fd, many, count, 0), udp->size);
}

/* Sends one datagram, or with sendmmsg up to `count`; the number that it sent. */
static long send_some(const struct udp *udp, int fd, long count, struct sockaddr *to,
		      socklen_t length)
{
	long before = counts.datagrams_written;

	if (calls(udp, "read"))
		count_sent(1, write(fd, bytes, udp->size));
	else if (calls(udp, "recv"))
		count_sent(1, send(fd, bytes, udp->size, 0));
	else if (calls(udp, "recvfrom"))
		count_sent(1, sendto(fd, bytes, udp->size, 0, to, length));
	else
		send_by_message(udp, fd, count, to, length);
	return counts.datagrams_written - before;
}

static long count_received(long datagrams, long total)
{
	check(datagrams >= 0 && total >= 0, "receive");
	counts.datagrams_read += datagrams;
	counts.bytes_read += total;
	return datagrams;
}

static long receive_by_message(const struct udp *udp, int fd, struct sockaddr_storage *from,
			       long wanted)
{
	struct iovec parts[BATCH_MAX];
	struct mmsghdr many[BATCH_MAX] = {};
	long got, total = 0;

	for (long i = 0; i < BATCH_MAX; i++) {
		parts[i] = (struct iovec){ sinks[i], SIZE_MAX_UDP };
		many[i].msg_hdr = (struct msghdr){ .msg_name = i ? NULL : from,
						   .msg_namelen = i ? 0 : sizeof(*from),
						   .msg_iov = &parts[i], .msg_iovlen = 1 };
	}
	if (calls(udp, "recvmsg"))
		return count_received(1, recvmsg(fd, &many[0].msg_hdr, 0));
	got = recvmmsg(fd, many, wanted < BATCH_MAX ? wanted : BATCH_MAX, MSG_WAITFORONE, NULL);
	for (long i = 0; i < got; i++)
		total += many[i].msg_len;
	return count_received(got, total);
}

/* Receives one datagram, or with recvmmsg up to `wanted`. */
static long receive_some(const struct udp *udp, int fd, struct sockaddr_storage *from, long wanted)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	socklen_t length = sizeof(*from);

	errno = ETIME;
	check(poll(&ready, 1, WAIT_MS) == 1, "no datagram came");
	if (udp->peek)
		recv(fd, sinks[0], SIZE_MAX_UDP, MSG_PEEK);
	if (calls(udp, "read"))
		return count_received(1, read(fd, sinks[0], SIZE_MAX_UDP));
	if (calls(udp, "recv"))
		return count_received(1, recv(fd, sinks[0], SIZE_MAX_UDP, 0));
	if (calls(udp, "recvfrom"))
		return count_received(1, recvfrom(fd, sinks[0], SIZE_MAX_UDP, 0,
						  (struct sockaddr *)from, &length));
	return receive_by_message(udp, fd, from, wanted);
}

/* Reads what is there, without waiting: the rest was dropped by a full buffer. */
static void drain(int fd)
{
	for (;;) {
		ssize_t got = recv(fd, sinks[0], SIZE_MAX_UDP, MSG_DONTWAIT);

		if (got < 0)
			return;
		count_received(1, got);
	}
}

static socklen_t address_length(const struct sockaddr_storage *address)
{
	return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) :
						sizeof(struct sockaddr_in);
}

static void answer_all(struct udp *udp, int fd)
{
	for (long got = 0; got < udp->datagrams;) {
		struct sockaddr_storage from = {};
		long some = receive_some(udp, fd, &from, udp->datagrams - got);

		got += some;
		for (long sent = 0; udp->reply && sent < some;)
			sent += send_some(udp, fd, some - sent, (struct sockaddr *)&from,
					  address_length(&from));
	}
}

/* The socket takes the first that sends for its peer. */
static void connect_to_first(int fd)
{
	struct sockaddr_storage from;
	socklen_t length = sizeof(from);

	recvfrom(fd, sinks[0], SIZE_MAX_UDP, MSG_PEEK, (struct sockaddr *)&from, &length);
	check(!connect(fd, (struct sockaddr *)&from, length), "connect");
}

static int bind_server(const struct udp *udp)
{
	const char *group = option("group", NULL);
	int buffer = option_number("buffer", 8 << 20, 1 << 28);
	int fd = socket(udp->to.ss_family, SOCK_DGRAM, 0), off = 0;
	struct ip_mreqn join = {};

	check(fd >= 0, "socket");
	if (udp->to.ss_family == AF_INET6)
		setsockopt(fd, SOL_IPV6, 26 /* IPV6_V6ONLY */, &off, sizeof(off));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	check(!bind(fd, (struct sockaddr *)&udp->to, udp->to_length), "bind");
	if (group) {
		join.imr_ifindex = if_nametoindex("lo");
		check(inet_pton(AF_INET, group, &join.imr_multiaddr) == 1, group);
		check(!setsockopt(fd, SOL_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join)), "join");
	}
	report_ready(fd);
	return fd;
}

int run_udp_server(void)
{
	struct udp udp = option_udp();
	int fd = bind_server(&udp);

	if (udp.connected)
		connect_to_first(fd);
	if (option_number("drain", 0, 1)) {
		wait_for_word();
		drain(fd);
	} else {
		answer_all(&udp, fd);
	}
	report_counts();
	return 0;
}

static void talk(const struct udp *udp, int fd)
{
	struct sockaddr *to = udp->connected ? NULL : (struct sockaddr *)&udp->to;
	socklen_t length = udp->connected ? 0 : udp->to_length;

	for (long done = 0; done < udp->datagrams;) {
		long left = udp->datagrams - done, sent = 0, got = 0;
		long wanted = left < udp->batch ? left : udp->batch;
		struct sockaddr_storage from;

		while (sent < wanted)
			sent += send_some(udp, fd, wanted - sent, to, length);
		while (udp->reply && got < sent)
			got += receive_some(udp, fd, &from, sent - got);
		done += sent;
	}
}

int run_udp_client(void)
{
	struct udp udp = option_udp();
	long sockets = option_number("sockets", 1, SOCKETS_MAX);
	struct ip_mreqn out = { .imr_ifindex = if_nametoindex("lo") };

	for (long i = 0; i < sockets; i++) {
		int fd = socket(udp.to.ss_family, SOCK_DGRAM, 0);

		check(fd >= 0, "socket");
		if (option_number("multicast", 0, 1))
			check(!setsockopt(fd, SOL_IP, IP_MULTICAST_IF, &out, sizeof(out)),
			      "IP_MULTICAST_IF");
		if (udp.connected)
			check(!connect(fd, (struct sockaddr *)&udp.to, udp.to_length), "connect");
		talk(&udp, fd);
		close(fd);
	}
	report_counts();
	return 0;
}
