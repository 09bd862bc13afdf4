/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for a server like Apache, whose handshake reads the first request along with the client's last words, and who
 * sends what SSL_write was given by itself: of all calls the handshake alone uses the socket. A program with functions of
 * OpenSSL's names and arguments, in clear text: prints its port, serves one request on each connection.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct session {
	int fd;
	int length;
	char input[4096];
};

static char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

__attribute__((noinline)) int SSL_do_handshake(struct session *ssl)
{
	char hello[8];

	if (recv(ssl->fd, hello, sizeof(hello), 0) <= 0 || send(ssl->fd, "hello", 5, 0) != 5)
		return -1;
	ssl->length = recv(ssl->fd, ssl->input, sizeof(ssl->input), 0);
	return ssl->length > 0 ? 1 : -1;
}

__attribute__((noinline)) int SSL_read(struct session *ssl, void *buffer, int length)
{
	int n = ssl->length < length ? ssl->length : length;

	memcpy(buffer, ssl->input, n);
	return n;
}

__attribute__((noinline)) int SSL_write(struct session *ssl, const void *buffer, int length)
{
	__asm__ volatile("" : : "r"(ssl), "r"(buffer) : "memory");
	return length;
}

__attribute__((noinline)) void SSL_free(struct session *ssl)
{
	close(ssl->fd);
	__asm__ volatile("" : : "r"(ssl) : "memory");
}

int main(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t size = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	struct session *ssl = calloc(1, sizeof(*ssl));
	char buffer[4096];

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 16) ||
	    getsockname(listener, (struct sockaddr *)&at, &size))
		return 1;
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	while ((ssl->fd = accept(listener, NULL, NULL)) >= 0) {
		if (SSL_do_handshake(ssl) == 1 && SSL_read(ssl, buffer, sizeof(buffer)) > 0) {
			int n = SSL_write(ssl, response, strlen(response));

			send(ssl->fd, response, n, 0);
		}
		SSL_free(ssl);
	}
	return 0;
}
