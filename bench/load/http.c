// SPDX-License-Identifier: Apache-2.0
/*
 * Requests to an HTTP server, one connection a thread. rate=0: as fast as answers come; else so many requests a second in
 * all, and latency counts from when a request was due, so that a stalled server cannot hide its stalls. close=1: each
 * request has a connection of its own. Ends after `count` requests or `seconds`, whichever is first.
 */
#define _GNU_SOURCE
#include "load.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES_MAX 4000000
#define ANSWER_MAX 65536

static struct sockaddr_storage server;
static bool one_each;
static long rate, threads, count_max;
static uint64_t start_ns, end_ns;
static atomic_long issued, answered, errors, bytes;
static uint32_t *samples;
static atomic_long sample_count;

static int dial(void)
{
	int fd = socket(server.ss_family, SOCK_STREAM, 0);

	if (fd >= 0 && !connect(fd, (struct sockaddr *)&server, sizeof(struct sockaddr_in)))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Reads one answer with a Content-Length; false: it broke. */
static bool take_answer(int fd)
{
	char text[ANSWER_MAX + 1];
	size_t have = 0;

	for (;;) {
		ssize_t got = read(fd, text + have, ANSWER_MAX - have);
		char *body, *length;

		if (got <= 0)
			return false;
		bytes += got;
		have += got;
		text[have] = 0;
		body = strstr(text, "\r\n\r\n");
		length = strcasestr(text, "content-length:");
		if (!body || !length)
			continue;
		if (have >= (size_t)(body + 4 - text) + strtoul(length + 15, NULL, 10))
			return true;
	}
}

static bool ask(int *fd)
{
	static const char keep[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
	static const char last[] = "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
	const char *request = one_each ? last : keep;
	bool ok;

	if (*fd < 0)
		*fd = dial();
	ok = *fd >= 0 && write(*fd, request, strlen(request)) > 0 && take_answer(*fd);
	if (*fd >= 0 && (one_each || !ok)) {
		close(*fd);
		*fd = -1;
	}
	return ok;
}

static void wait_until(uint64_t due)
{
	struct timespec at = { .tv_sec = due / 1000000000, .tv_nsec = due % 1000000000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void *client(void *nothing)
{
	int fd = -1;

	(void)nothing;
	for (;;) {
		long turn = issued++;
		uint64_t due = rate ? start_ns + turn * 1000000000ULL / rate : now_ns();

		if (turn >= count_max || due >= end_ns)
			break;
		if (rate)
			wait_until(due);
		if (!ask(&fd)) {
			errors++;
			continue;
		}
		answered++;
		samples[sample_count++ % SAMPLES_MAX] = now_ns() - due;
	}
	if (fd >= 0)
		close(fd);
	return NULL;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static long samples_kept(void)
{
	return sample_count < SAMPLES_MAX ? sample_count : SAMPLES_MAX;
}

static double quantile_us(double share)
{
	long kept = samples_kept();

	return kept ? samples[(long)((kept - 1) * share)] / 1000.0 : 0;
}

int http_load(void)
{
	pthread_t ids[THREADS_MAX];
	double seconds;
	uint64_t ended;

	address(&server, number("port", 80, 65535));
	threads = number("threads", 8, THREADS_MAX);
	rate = number("rate", 0, 1000000);
	count_max = number("count", 1L << 40, 1L << 40);
	one_each = number("close", 0, 1);
	samples = calloc(SAMPLES_MAX, sizeof(*samples));
	if (!samples)
		die("calloc");
	start_ns = now_ns();
	end_ns = start_ns + number("seconds", 5, SECONDS_MAX) * 1000000000ULL;
	for (long i = 0; i < threads; i++) {
		if (pthread_create(&ids[i], NULL, client, NULL))
			die("pthread_create");
	}
	for (long i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	ended = now_ns();
	seconds = (ended - start_ns) / 1e9;
	qsort(samples, samples_kept(), sizeof(*samples), by_size);
	printf("{\"requests\":%ld,\"errors\":%ld,\"bytes_read\":%ld,", answered, errors, bytes);
	printf("\"seconds\":%.6f,\"cpu_us\":%.0f,", seconds, cpu_us(RUSAGE_SELF));
	printf("\"p50_us\":%.1f,\"p90_us\":%.1f,", quantile_us(0.5), quantile_us(0.9));
	printf("\"p99_us\":%.1f}\n", quantile_us(0.99));
	return 0;
}
