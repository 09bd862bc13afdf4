// SPDX-License-Identifier: Apache-2.0
/* Bytes through a TCP socket, by read and write, by splice through a pipe, or by sendfile. */
#define _GNU_SOURCE
#include "traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

static char zeros[CHUNK];
static _Thread_local int pipe_fds[2] = { -1, -1 };
static _Thread_local int file_fd = -1;

static long least(long a, long b)
{
	return a < b ? a : b;
}

static void open_pipe(void)
{
	if (pipe_fds[0] < 0)
		check(!pipe(pipe_fds), "pipe");
}

static void close_pipe(void)
{
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	pipe_fds[0] = pipe_fds[1] = -1;
}

static long take_by_splice(int fd, long wanted)
{
	char sink[CHUNK];
	long got, left;

	open_pipe();
	got = splice(fd, NULL, pipe_fds[1], NULL, least(wanted, CHUNK), SPLICE_F_MOVE);
	for (left = got; left > 0;) {
		long emptied = read(pipe_fds[0], sink, least(left, CHUNK));

		check(emptied > 0, "read from the pipe");
		left -= emptied;
	}
	return got;
}

/* As read(): at most `wanted` bytes, 0 at the end, -1 for an error, which is counted. */
long take_bytes(int fd, long wanted, bool by_splice)
{
	char sink[CHUNK];
	long got = by_splice ? take_by_splice(fd, wanted) : read(fd, sink, least(wanted, CHUNK));

	if (got > 0)
		counts.bytes_read += got;
	if (got < 0)
		count_error(errno);
	return got;
}

static long put_by_splice(int fd, long bytes)
{
	long filled;

	open_pipe();
	filled = write(pipe_fds[1], zeros, least(bytes, CHUNK));
	check(filled > 0, "write to the pipe");
	for (long left = filled; left > 0;) {
		long put = splice(pipe_fds[0], NULL, fd, NULL, left, SPLICE_F_MOVE);

		if (put <= 0) {
			close_pipe(); /* what is in it is not for the next socket */
			return -1;
		}
		left -= put;
	}
	return filled;
}

static long put_by_sendfile(int fd, long bytes)
{
	off_t start = 0;

	if (file_fd < 0) {
		file_fd = memfd_create("traffic", 0);
		check(file_fd >= 0 && !ftruncate(file_fd, CHUNK), "memfd_create");
	}
	return sendfile(fd, file_fd, &start, least(bytes, CHUNK));
}

/* All bytes, or false and the error counted. */
bool put_bytes(int fd, long bytes, const struct exchange *how)
{
	while (bytes > 0) {
		long put = how->by_splice   ? put_by_splice(fd, bytes) :
			   how->by_sendfile ? put_by_sendfile(fd, bytes) :
					      send(fd, zeros, least(bytes, CHUNK), MSG_NOSIGNAL);

		if (put <= 0) {
			count_error(errno);
			return false;
		}
		counts.bytes_written += put;
		bytes -= put;
	}
	return true;
}

void close_socket(int fd, const struct exchange *how)
{
	struct linger abort = { .l_onoff = 1, .l_linger = 0 };

	if (how->reset)
		check(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort)), "SO_LINGER");
	close(fd);
}
