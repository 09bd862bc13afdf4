/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Totals that are taken out each interval without losing one. A program that has looked an entry up may still add to it
 * after it was taken; so there are two maps: programs fill the one that `sonde_turn` names; the collector turns it over, waits
 * until no program is left that saw the old turn (an RCU grace period), and reads the idle map, which it empties when the rows
 * are safe. Memory follows what was active in one interval, and nothing of a dead process stays.
 * Reader: src/collector/turns.ts, decode.ts.
 */
#ifndef SONDE_TURNS_H
#define SONDE_TURNS_H

#include "ring.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} sonde_turn SEC(".maps");

static __always_inline bool turn_now(void)
{
	u32 zero = 0;
	u32 *turn = bpf_map_lookup_elem(&sonde_turn, &zero);

	return turn && (*turn & 1);
}

/*
 * Two hash maps `name`_0 and `name`_1 and their functions:
 * `name`_find(key) the entry of this turn, NULL if there is none yet;
 * `name`_make(key, fresh) the same after putting `fresh` there; NULL: the map is full, and the caller counts it;
 * `name`_find_in, `name`_make_in the same for a caller that has read the turn, which then is one for all that it does.
 * Values are shared by all CPUs: add with TURN_ADD. The two look-ups are kept apart by statements that do nothing but differ:
 * one call for both maps is one that the kernel cannot inline, and costs twice as much.
 */
#define DEFINE_TURNS(name, key_type, value_type, entries) \
	DEFINE_TURNS_FLAGS(name, key_type, value_type, entries, 0)

/* The same with flags of the maps: BPF_F_NO_PREALLOC takes memory only for what is there. */
#define DEFINE_TURNS_FLAGS(name, key_type, value_type, entries, flags) \
struct { \
	__uint(type, BPF_MAP_TYPE_HASH); \
	__uint(max_entries, entries); \
	__uint(map_flags, flags); \
	__type(key, key_type); \
	__type(value, value_type); \
} name##_0 SEC(".maps"), name##_1 SEC(".maps"); \
\
static __always_inline value_type *name##_find_in(bool turn, key_type *key) \
{ \
	value_type *value; \
	if (turn) { \
		value = bpf_map_lookup_elem(&name##_1, key); \
		asm volatile("" : "+r"(value) : : "memory"); \
	} else { \
		value = bpf_map_lookup_elem(&name##_0, key); \
		asm volatile("" : "+r"(value)); \
	} \
	return value; \
} \
\
static __always_inline value_type *name##_find(key_type *key) \
{ \
	return name##_find_in(turn_now(), key); \
} \
\
static __always_inline value_type *name##_make_in(bool turn, key_type *key, value_type *fresh) \
{ \
	if (turn) { \
		bpf_map_update_elem(&name##_1, key, fresh, BPF_NOEXIST); \
		return bpf_map_lookup_elem(&name##_1, key); \
	} \
	bpf_map_update_elem(&name##_0, key, fresh, BPF_NOEXIST); \
	return bpf_map_lookup_elem(&name##_0, key); \
} \
\
static __always_inline value_type *name##_make(key_type *key, value_type *fresh) \
{ \
	return name##_make_in(turn_now(), key, fresh); \
}

#define TURN_ADD(place, amount) __sync_fetch_and_add(&(place), (amount))

#endif
