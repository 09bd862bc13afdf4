// SPDX-License-Identifier: Apache-2.0
/* What the tool says: one JSON line each, in one write, so that the lines of several processes do not mix. */
#define _GNU_SOURCE
#include "traffic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX 4096

struct counts counts;

void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void say(const char *line)
{
	ssize_t length = strlen(line);

	check(write(STDOUT_FILENO, line, length) == length, "standard output");
}

/* The port that the kernel gave. */
void report_ready(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char line[LINE_MAX];

	check(!getsockname(fd, (struct sockaddr *)&address, &length), "getsockname");
	snprintf(line, sizeof(line), "{\"event\":\"ready\",\"pid\":%d,\"port\":%d}\n", getpid(),
		 ntohs(((struct sockaddr_in *)&address)->sin_port));
	say(line);
}

void report_event(const char *event)
{
	char line[LINE_MAX];

	snprintf(line, sizeof(line), "{\"event\":\"%s\",\"pid\":%d}\n", event, getpid());
	say(line);
}

void count_error(int number)
{
	counts.errors[number > 0 && number < ERRNO_MAX ? number : 0]++;
}

void report_counts(void)
{
	char line[LINE_MAX];
	int at = snprintf(line, sizeof(line),
			  "{\"event\":\"counts\",\"pid\":%d,\"connections\":%ld,"
			  "\"bytes_read\":%ld,\"bytes_written\":%ld,"
			  "\"datagrams_read\":%ld,\"datagrams_written\":%ld,\"errors\":{",
			  getpid(), counts.connections, counts.bytes_read, counts.bytes_written,
			  counts.datagrams_read, counts.datagrams_written);
	const char *comma = "";

	for (int i = 0; i < ERRNO_MAX && at < LINE_MAX - 64; i++) {
		if (!counts.errors[i])
			continue;
		at += snprintf(line + at, sizeof(line) - at, "%s\"%s\":%ld", comma,
			       strerrorname_np(i), counts.errors[i]);
		comma = ",";
	}
	snprintf(line + at, sizeof(line) - at, "}}\n");
	say(line);
}

/* Waits for a line on standard input; false: it has ended. */
bool wait_for_word(void)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) == 1) {
		if (byte == '\n')
			return true;
	}
	return false;
}
