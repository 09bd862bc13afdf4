/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for a server with kTLS, for kernels that have none: a program with functions of OpenSSL's names and arguments that
 * move no bytes. It serves a request, a head by SSL_write and its body by SSL_sendfile, as often as a line of input says.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define BODY 100000

static char request[] = "GET /file/red HTTP/1.1\r\nHost: stand-in\r\n\r\n";
static char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
static char session[64];

__attribute__((noinline)) int SSL_read(void *ssl, void *buffer, int length)
{
	__asm__ volatile("" : : "r"(ssl), "r"(buffer) : "memory");
	return length;
}

__attribute__((noinline)) int SSL_write(void *ssl, const void *buffer, int length)
{
	__asm__ volatile("" : : "r"(ssl), "r"(buffer) : "memory");
	return length;
}

__attribute__((noinline)) ssize_t SSL_sendfile(void *ssl, int fd, off_t at, size_t size,
					       int flags)
{
	__asm__ volatile("" : : "r"(ssl), "r"(fd), "r"(at), "r"(flags) : "memory");
	return (ssize_t)size;
}

int main(void)
{
	char line[32];
	volatile long moved = 0;

	while (fgets(line, sizeof(line), stdin)) {
		for (int left = atoi(line); left > 0; left--) {
			moved += SSL_read(session, request, strlen(request));
			moved += SSL_write(session, response, strlen(response));
			moved += SSL_sendfile(session, 3, 0, BODY / 4, 0);
			moved += SSL_sendfile(session, 3, BODY / 4, BODY - BODY / 4, 0);
		}
		printf("done\n");
		fflush(stdout);
	}
	return 0;
}
