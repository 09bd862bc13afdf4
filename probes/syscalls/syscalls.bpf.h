/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * System calls by process, number and result: counted where they return (sys_exit), so that one hook tells call and error.
 * Calls that never return (exit, a call cut short by the end of its thread) are not counted. With latency the entry is hooked
 * too: the time stands with the thread meanwhile. Decoder: probes/syscalls/syscalls.ts.
 */
#ifndef SONDE_SYSCALLS_H
#define SONDE_SYSCALLS_H

#include "front.bpf.h"
#include "histogram.bpf.h"
#include "identity.bpf.h"
#include "level.bpf.h"
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
DEFINE_FRONT(syscalls, struct syscall_key, struct syscall_sums, calls, 1, 7)
DEFINE_TURNS(syscall_lat, struct syscall_key, struct syscall_times, 4096)
DEFINE_TURNS(syscall_rest, u32, struct syscall_rest, 640)

/* Fewer than the map holds: one for each number, or for all that there are not. */
#define SYSCALL_REST_MAX 600

/* `why`: what counts the call for the ledger. */
static __noinline int syscall_count_rest(u32 nr, u32 error, u32 why)
{
	u32 key = (nr & ~SYSCALL_COMPAT) < SYSCALL_REST_MAX ? nr & ~SYSCALL_COMPAT :
							      SYSCALL_REST_MAX;
	struct syscall_rest fresh = {};
	struct syscall_rest *rest = syscall_rest_find(&key);

	count(why);
	if (!rest)
		rest = syscall_rest_make(&key, &fresh);
	if (!rest)
		return 0; /* cannot be: there are fewer keys than entries */
	TURN_ADD(rest->calls, 1);
	if (error)
		TURN_ADD(rest->errors, 1);
	return 0;
}

/* As it lies in memory. */
static __always_inline u64 syscall_key_bits(struct syscall_key *key)
{
	return key->tgid | (u64)key->nr << 32 | (u64)key->error << 48;
}

static __always_inline void syscall_count_plain(struct syscall_key *key)
{
	u32 turn = turn_now();
	u64 bits = syscall_key_bits(key);
	struct syscalls_slot *slot = syscalls_slot_of(turn, bits);
	struct syscall_sums *sums, fresh;

	if (slot && slot->key == bits) {
		slot->sums[0] += 1;
		return;
	}
	sums = syscalls_find_in(turn, key);
	if (!sums) {
		__builtin_memset(&fresh, 0, sizeof(fresh));
		owner_of_current(&fresh.owner);
		sums = syscalls_make_in(turn, key, &fresh);
	}
	if (!sums) {
		syscall_count_rest(key->nr, key->error, COUNT_SYSCALL_FULL);
		return;
	}
	TURN_ADD(sums->calls, 1);
	if (slot)
		syscalls_settle(turn, slot, bits, sums->calls);
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
		syscall_count_rest(key->nr, key->error, COUNT_SYSCALL_FULL);
		return;
	}
	TURN_ADD(times->calls, 1);
	if (took_ns)
		histogram_add(&times->latency, took_ns);
}

static __always_inline struct syscall_key syscall_key_of(u32 tgid, u32 nr, long result)
{
	struct syscall_key key = { .tgid = tgid, .nr = nr };

	if (result < 0 && result >= -ERRNO_MAX)
		key.error = -result;
	return key;
}

/* Steps of the source over its budget. */
enum syscalls_level {
	SYSCALLS_SAMPLED = 1, /* one call in so many with its process, the others by call alone */
	SYSCALLS_TOTALS = 2,  /* all by call alone */
};

#define SYSCALLS_SAMPLE 16

/* True: the call is counted as the level says, and that is all. */
static __always_inline bool syscalls_reduced(struct syscall_key *key)
{
	u32 level = level_of(LEVEL_SYSCALLS);

	if (!level)
		return false;
	if (level == SYSCALLS_SAMPLED && bpf_get_prandom_u32() % SYSCALLS_SAMPLE == 0)
		return false;
	if (level != LEVEL_OFF)
		syscall_count_rest(key->nr, key->error, COUNT_SYSCALL_COARSE);
	return true;
}

/* `took_ns` 0: not known. */
static __always_inline void syscalls_on_exit_timed(u32 tgid, u32 nr, long result,
						   u64 took_ns)
{
	struct syscall_key key = syscall_key_of(tgid, nr, result);

	if (!syscalls_reduced(&key))
		syscall_count_timed(&key, took_ns);
}

static __always_inline void syscalls_on_exit_plain(u32 tgid, u32 nr, long result)
{
	struct syscall_key key = syscall_key_of(tgid, nr, result);

	if (!syscalls_reduced(&key))
		syscall_count_plain(&key);
}

#endif
