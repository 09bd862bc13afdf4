// SPDX-License-Identifier: Apache-2.0
/* What every load needs: the words that it was called with, an address, the clocks. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

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
