/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * System calls by process, number and result: counted where they return (sys_exit), so that one hook tells call and error.
 * Calls that never return (exit, a call cut short by the end of its thread) are not counted. With latency the entry is hooked
 * too: the time stands with the thread meanwhile. Decoder: probes/syscalls/syscalls.ts.
 */
#ifndef SONDE_SYSCALLS_H
#define SONDE_SYSCALLS_H

#include "histogram.bpf.h"
#include "identity.bpf.h"
#include "syscall.bpf.h"
#include "turns.bpf.h"

#define ERRNO_MAX 4095

/* Set from configuration: collector.syscalls.latency. */
const volatile bool syscalls_timed = false;

struct syscall_key {
	u32 tgid;
	u16 nr; /* see syscall_nr */
	u16 error; /* errno, 0: none */
};

struct syscall_sums {
	struct owner owner;
	u64 calls;
};

/* In place of the above with latency. */
struct syscall_times {
	struct owner owner;
	u64 calls;
	struct histogram latency; /* ns; its count may be less: calls that began before sonde */
};

/* Calls of processes that found the map full. */
struct syscall_rest {
	u64 calls;
	u64 errors;
};

DEFINE_TURNS(syscalls, struct syscall_key, struct syscall_sums, 8192)
DEFINE_TURNS(syscall_lat, struct syscall_key, struct syscall_times, 4096)
DEFINE_TURNS(syscall_rest, u32, struct syscall_rest, 640)

/* Fewer than the map holds: one for each number, or for all that there are not. */
#define SYSCALL_REST_MAX 600

static __noinline int syscall_count_rest(u32 nr, u32 error)
{
	u32 key = (nr & ~SYSCALL_COMPAT) < SYSCALL_REST_MAX ? nr & ~SYSCALL_COMPAT :
							      SYSCALL_REST_MAX;
	struct syscall_rest fresh = {};
	struct syscall_rest *rest = syscall_rest_find(&key);

	count(COUNT_SYSCALL_FULL);
	if (!rest)
		rest = syscall_rest_make(&key, &fresh);
	if (!rest)
		return 0; /* cannot be: there are fewer keys than entries */
	TURN_ADD(rest->calls, 1);
	if (error)
		TURN_ADD(rest->errors, 1);
	return 0;
}

static __always_inline void syscall_count_plain(struct syscall_key *key)
{
	struct syscall_sums *sums = syscalls_find(key);
	struct syscall_sums fresh;

	if (!sums) {
		__builtin_memset(&fresh, 0, sizeof(fresh));
		owner_of_current(&fresh.owner);
		sums = syscalls_make(key, &fresh);
	}
	if (sums)
		TURN_ADD(sums->calls, 1);
	else
		syscall_count_rest(key->nr, key->error);
}

static __always_inline void syscall_count_timed(struct syscall_key *key, u64 took_ns)
{
	struct syscall_times *times = syscall_lat_find(key);
	struct syscall_times fresh;

	if (!times) {
		__builtin_memset(&fresh, 0, sizeof(fresh));
		owner_of_current(&fresh.owner);
		times = syscall_lat_make(key, &fresh);
	}
	if (!times) {
		syscall_count_rest(key->nr, key->error);
		return;
	}
	TURN_ADD(times->calls, 1);
	if (took_ns)
		histogram_add(&times->latency, took_ns);
}

static __always_inline struct syscall_key syscall_key_of(u32 nr, long result)
{
	struct syscall_key key = { .tgid = current_tgid(), .nr = nr };

	if (result < 0 && result >= -ERRNO_MAX)
		key.error = -result;
	return key;
}

/* `took_ns` 0: not known. */
static __always_inline void syscalls_on_exit_timed(u32 nr, long result, u64 took_ns)
{
	struct syscall_key key = syscall_key_of(nr, result);

	syscall_count_timed(&key, took_ns);
}

static __always_inline void syscalls_on_exit_plain(u32 nr, long result)
{
	struct syscall_key key = syscall_key_of(nr, result);

	syscall_count_plain(&key);
}

#endif
