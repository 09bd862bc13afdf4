// SPDX-License-Identifier: Apache-2.0
/*
 * load http|udp|hold|exchange name=value …, or: load exec PROGRAM ARGUMENT …
 * exec runs a program and tells what processor time it took, to the microsecond.
 */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int word_count;
static char **words;

void words_read(int count, char **from)
{
	word_count = count;
	words = from;
}

const char *word(const char *name, const char *fallback)
{
	size_t length = strlen(name);

	for (int i = 0; i < word_count; i++) {
		if (!strncmp(words[i], name, length) && words[i][length] == '=')
			return words[i] + length + 1;
	}
	return fallback;
}

long number(const char *name, long fallback, long max)
{
	const char *text = word(name, NULL);
	char *end;
	long value;

	if (!text)
		return fallback;
	value = strtol(text, &end, 10);
	if (end == text || *end || value < 0 || value > max) {
		fprintf(stderr, "load: %s=%s is no number from 0 to %ld\n", name, text, max);
		exit(2);
	}
	return value;
}

void address(struct sockaddr_storage *to, long port)
{
	struct sockaddr_in *four = (struct sockaddr_in *)to;

	memset(to, 0, sizeof(*to));
	four->sin_family = AF_INET;
	four->sin_port = htons(port);
	four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

void die(const char *what)
{
	perror(what);
	exit(1);
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

double cpu_us(int who)
{
	struct rusage used;

	getrusage(who, &used);
	return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 + used.ru_utime.tv_usec +
	       used.ru_stime.tv_usec;
}

int exec_load(char **command)
{
	uint64_t start = now_ns();
	int status = 1;
	pid_t child;

	if (!command[0])
		return 2;
	child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execvp(command[0], command);
		die(command[0]);
	}
	signal(SIGINT, SIG_IGN);
	waitpid(child, &status, 0);
	printf("{\"cpu_us\":%.0f,\"wall_ns\":%llu}\n", cpu_us(RUSAGE_CHILDREN),
	       (unsigned long long)(now_ns() - start));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int count, char **arguments)
{
	const char *mode = count > 1 ? arguments[1] : "";

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(mode, "exec"))
		return exec_load(arguments + 2);
	words_read(count - 2, arguments + 2);
	alarm(SECONDS_MAX * 4);
	if (!strcmp(mode, "http"))
		return http_load();
	if (!strcmp(mode, "udp"))
		return udp_load();
	if (!strcmp(mode, "hold"))
		return hold_load();
	if (!strcmp(mode, "exchange"))
		return exchange_load();
	fprintf(stderr, "load: http, udp, hold, exchange or exec, not '%s'\n", mode);
	return 2;
}
