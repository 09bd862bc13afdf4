/* SPDX-License-Identifier: Apache-2.0 */
/* Loads for the benchmarks: each is bounded in count and time, speaks over loopback, and prints one line of JSON. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define THREADS_MAX 256
#define SECONDS_MAX 60

void words_read(int count, char **words);
const char *word(const char *name, const char *fallback);
long number(const char *name, long fallback, long max);
void address(struct sockaddr_storage *to, long port);
void die(const char *what);

uint64_t now_ns(void);
/* Processor time of this process, user and system, in microseconds. */
double cpu_us(int who);

int http_load(void);
int udp_load(void);
int hold_load(void);
int exchange_load(void);
int exec_load(char **command);

#endif
