// SPDX-License-Identifier: Apache-2.0
/*
 * Holds `count` connections open, from as many source addresses as it takes, in as many processes as the limit of open
 * files asks for; both ends of a connection are in one. Each line on standard input then sends one byte over every
 * connection and says so; the end of input closes them all.
 */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT_MAX 500000
#define PER_SOURCE 20000 /* ports of one source address that are taken */
#define PROCESSES_MAX 250 /* each has an address of its own */
#define FILES_SPARE 64

static int *clients, *servers;
static long opened;

/* Raises the limit of open files as far as it goes; connections that fit below it. */
static long connections_max(long files)
{
	struct rlimit limit = { .rlim_cur = files, .rlim_max = files };

	if (setrlimit(RLIMIT_NOFILE, &limit)) {
		getrlimit(RLIMIT_NOFILE, &limit);
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	return ((long)limit.rlim_cur - FILES_SPARE) / 2;
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
static bool open_one(int listener, const struct sockaddr_in *to, long source)
{
	struct sockaddr_in from = { .sin_family = AF_INET };
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + source + (opened / PER_SOURCE << 8));
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

/* What a process tells the first one. */
struct answer {
	long connections;
	int why; /* errno, or 0 */
};

/* One process: opens its share, then does an exchange for each byte that it is sent. */
static void hold_share(long share, long source, int from, int to)
{
	struct answer answer = { 0 };
	struct sockaddr_in server;
	int listener = listening(&server);
	char byte;

	clients = calloc(share, sizeof(int));
	servers = calloc(share, sizeof(int));
	if (!clients || !servers)
		die("calloc");
	while (opened < share && open_one(listener, &server, source))
		continue;
	answer.connections = opened;
	answer.why = opened < share ? errno : 0;
	while (write(to, &answer, sizeof(answer)) == sizeof(answer) && read(from, &byte, 1) == 1)
		exchange();
}

static struct {
	int to, from;
} processes[PROCESSES_MAX];

static void start_share(long i, long share)
{
	int down[2], up[2];

	if (pipe(down) || pipe(up))
		die("pipe");
	switch (fork()) {
	case -1:
		die("fork");
		break;
	case 0:
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (long other = 0; other < i; other++)
			close(processes[other].to); /* else its end of input would not reach that process */
		close(down[1]);
		hold_share(share, i, down[0], up[1]);
		exit(0);
	}
	close(down[0]);
	close(up[1]);
	processes[i].to = down[1];
	processes[i].from = up[0];
}

/* The answers of all, added up. */
static struct answer take_answers(long count)
{
	struct answer sum = { 0 };

	for (long i = 0; i < count; i++) {
		struct answer one;

		if (read(processes[i].from, &one, sizeof(one)) != sizeof(one))
			die("a process that holds connections");
		sum.connections += one.connections;
		sum.why = one.why ? one.why : sum.why;
	}
	return sum;
}

int hold_load(void)
{
	long count = number("count", 1000, COUNT_MAX);
	long each = connections_max(2 * count + FILES_SPARE);
	long needed = (count + each - 1) / each;
	struct answer answer;
	char line[16];

	if (needed > PROCESSES_MAX)
		needed = PROCESSES_MAX;
	for (long i = 0; i < needed; i++)
		start_share(i, i < needed - 1 ? each : count - each * (needed - 1));
	answer = take_answers(needed);
	printf("{\"connections\":%ld,\"processes\":%ld,\"why\":\"%s\"}\n", answer.connections, needed,
	       answer.why ? strerror(answer.why) : "");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		for (long i = 0; i < needed; i++) {
			if (write(processes[i].to, "x", 1) != 1)
				die("write");
		}
		answer = take_answers(needed);
		printf("{\"exchanged\":%ld}\n", answer.connections);
		fflush(stdout);
	}
	for (long i = 0; i < needed; i++)
		close(processes[i].to);
	while (wait(NULL) > 0)
		continue;
	return 0;
}
