// SPDX-License-Identifier: Apache-2.0
// Netlink sockets: the events and tables of the kernel that no program of ours sees. What is said on
// them is the caller's.
#define _GNU_SOURCE
#include "sonde_bpf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

// A socket of the network namespace at `path`: only this thread goes there, and comes back. Errors
// as −errno.
static int open_in(const char *path, int protocol)
{
	int there = -1, here = -1, fd = -1, error = 0;
	struct stat a, b;

	if (!path) {
		fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
		return fd < 0 ? -errno : fd;
	}
	there = open(path, O_RDONLY | O_CLOEXEC);
	here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (there < 0 || here < 0 || fstat(there, &a) || fstat(here, &b))
		error = errno;
	else if (a.st_ino != b.st_ino && setns(there, CLONE_NEWNET))
		error = errno;
	if (!error) {
		fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
		error = fd < 0 ? errno : 0;
		if (a.st_ino != b.st_ino && setns(here, CLONE_NEWNET))
			error = errno; // cannot be: we came from there
	}
	if (there >= 0)
		close(there);
	if (here >= 0)
		close(here);
	if (error && fd >= 0)
		close(fd);
	return error ? -error : fd;
}

static int prepare(int fd, uint32_t groups, int room, struct bytes filter)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = groups };
	struct sock_fprog program = {
		.len = (unsigned short)(filter.length / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)filter.data,
	};

	// Before it is bound, so that nothing comes in unfiltered.
	if (program.len && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		return errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)))
		return errno;
	return bind(fd, (struct sockaddr *)&address, sizeof(address)) ? errno : 0;
}

// netlinkOpen(netns path | null, protocol, groups, bytes of room, filter: struct sock_filter[]) →
// handle
static napi_value netlink_open(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 5);
	struct text text;
	const char *path = call_text(&call, 0, &text);
	int protocol = call_i32(&call, 1);
	uint32_t groups = call_u32(&call, 2);
	int room = call_i32(&call, 3);
	struct bytes filter = call_bytes(&call, 4);
	int fd, error;

	if (call.failed)
		return NULL;
	fd = open_in(path, protocol);
	if (fd < 0)
		return throw_errno(env, -fd, "Cannot open a netlink socket");
	error = prepare(fd, groups, room, filter);
	if (error) {
		close(fd);
		return throw_errno(env, error, "Cannot prepare a netlink socket");
	}
	return fd_handle_new(env, HANDLE_FD, fd);
}

// netlinkSend(socket, message): to the kernel
static napi_value netlink_send(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct handle *handle = call_handle(&call, 0, HANDLE_FD);
	struct bytes message = call_bytes(&call, 1);
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	if (call.failed || !handle)
		return NULL;
	if (sendto(handle->fd, message.data, message.length, 0, (struct sockaddr *)&kernel,
	           sizeof(kernel)) < 0)
		return throw_errno(env, errno, "Cannot send a netlink message");
	return NULL;
}

// netlinkReceive(socket, into) → bytes of the next datagram; 0: none waits; −1: some found no room
static napi_value netlink_receive(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct handle *handle = call_handle(&call, 0, HANDLE_FD);
	struct bytes into = call_bytes(&call, 1);
	struct sockaddr_nl from = { 0 };
	socklen_t from_length = sizeof(from);
	ssize_t length;

	if (call.failed || !handle)
		return NULL;
	do {
		length = recvfrom(handle->fd, into.data, into.length, MSG_DONTWAIT,
		                  (struct sockaddr *)&from, &from_length);
	} while (length >= 0 && from.nl_pid != 0); // another process's, not the kernel's
	if (length >= 0)
		return value_number(env, (double)length);
	if (errno == EAGAIN || errno == EINTR)
		return value_number(env, 0);
	if (errno == ENOBUFS)
		return value_number(env, -1);
	return throw_errno(env, errno, "Cannot read a netlink socket");
}

static const struct function functions[] = {
	{ "netlinkOpen", netlink_open },
	{ "netlinkSend", netlink_send },
	{ "netlinkReceive", netlink_receive },
};

void netlink_register(napi_env env, napi_value exports)
{
	register_functions(env, exports, functions, ARRAY_LENGTH(functions));
}
