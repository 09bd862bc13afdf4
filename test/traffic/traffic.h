// SPDX-License-Identifier: Apache-2.0
/*
 * A small tool that makes traffic and counts it itself: what it prints is the truth that the live tests hold sonde
 * against. Words on the command line are `name=value`; what it prints are lines of JSON, read by traffic.ts.
 * Every loop is bounded by a count of the command line, and the whole program by `seconds`.
 */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#define ERRNO_MAX 134
#define FDS_MAX (1 << 17)
#define CHUNK 65536

/* What one process did; threads add to it at once. */
struct counts {
	_Atomic long connections; /* opened or accepted */
	_Atomic long bytes_read;
	_Atomic long bytes_written;
	_Atomic long datagrams_read;
	_Atomic long datagrams_written;
	_Atomic long errors[ERRNO_MAX]; /* by errno: connects, reads and writes that failed */
};

extern struct counts counts;

/* How bytes are taken from and put into a TCP socket, and how its life ends. */
struct exchange {
	long request; /* bytes */
	long response;
	bool by_splice;
	bool by_sendfile;
	bool half_close; /* the client shuts its side before the response comes */
	bool reset; /* close with SO_LINGER 0 */
	bool unread; /* close with unread data in the socket */
};

/* main.c */
void bound_life(void);

/* args.c */
void options_read(int count, char **words);
const char *option(const char *name, const char *fallback);
long option_number(const char *name, long fallback, long max);
bool option_is(const char *name, const char *value);
socklen_t option_address(struct sockaddr_storage *to);
struct exchange option_exchange(void);

/* report.c */
void check(bool ok, const char *what);
void report_ready(int fd);
void report_event(const char *event);
void report_counts(void);
bool wait_for_word(void);
void count_error(int number);

/* bytes.c */
long take_bytes(int fd, long wanted, bool by_splice);
bool put_bytes(int fd, long bytes, const struct exchange *how);
void close_socket(int fd, const struct exchange *how);

int run_server(void);
int run_client(void);
int run_udp_server(void);
int run_udp_client(void);
int run_cgroups(void);
int run_processes(void);
int run_sockets(void);

/* datagrams.c, for sockets.c */
void udp_pair(int *pair, struct sockaddr_storage *at);
void udp_shared(void);
void udp_idle(void);
void udp_unnamed(void);
void udp_source(void);
void udp_peek(void);

#endif
