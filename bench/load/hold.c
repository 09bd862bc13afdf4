// SPDX-License-Identifier: Apache-2.0
/*
 * Holds `count` connections open, both ends in this process, from as many source addresses as it takes. Each line on
 * standard input then sends one byte over every connection and says so; the end of input closes them all.
 */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define COUNT_MAX 500000
#define PER_SOURCE 20000 /* ports of one source address that are taken */

static int *clients, *servers;
static long opened;

static void raise_limit(long files)
{
	struct rlimit limit = { .rlim_cur = files, .rlim_max = files };

	if (!setrlimit(RLIMIT_NOFILE, &limit))
		return;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int listening(struct sockaddr_in *at)
{
	socklen_t length = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	memset(at, 0, sizeof(*at));
	at->sin_family = AF_INET;
	at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)at, length) || listen(fd, 1024))
		die("listen");
	getsockname(fd, (struct sockaddr *)at, &length);
	return fd;
}

/* Opens one more; false: a limit of this machine is reached, and errno says which. */
static bool open_one(int listener, const struct sockaddr_in *to)
{
	struct sockaddr_in from = { .sin_family = AF_INET };
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + opened / PER_SOURCE);
	if (fd < 0)
		return false;
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)) ||
	    connect(fd, (const struct sockaddr *)to, sizeof(*to))) {
		close(fd);
		return false;
	}
	clients[opened] = fd;
	servers[opened] = accept(listener, NULL, NULL);
	if (servers[opened] < 0) {
		close(fd);
		return false;
	}
	opened++;
	return true;
}

static void exchange(void)
{
	char byte = 1;

	for (long i = 0; i < opened; i++) {
		if (write(clients[i], &byte, 1) != 1 || read(servers[i], &byte, 1) != 1)
			die("exchange");
	}
}

int hold_load(void)
{
	long count = number("count", 1000, COUNT_MAX);
	struct sockaddr_in to;
	char line[16];
	int listener;
	int why = 0;

	raise_limit(2 * count + 64);
	clients = calloc(count, sizeof(int));
	servers = calloc(count, sizeof(int));
	if (!clients || !servers)
		die("calloc");
	listener = listening(&to);
	while (opened < count && open_one(listener, &to))
		continue;
	if (opened < count)
		why = errno;
	printf("{\"connections\":%ld,\"why\":\"%s\"}\n", opened, why ? strerror(why) : "");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		exchange();
		printf("{\"exchanged\":%ld}\n", opened);
		fflush(stdout);
	}
	return 0;
}
