/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What stands before a pair of maps of turns.bpf.h where the same few keys come again and again: slots of each CPU, for each
 * turn, with the key of an entry and what is still to be added to it. A hit costs a comparison and plain additions, no look-up
 * and no atomic one. Which keys have a slot only decides what an event costs: the rest goes to the entry itself. A key that
 * has a slot has an entry in the same turn, which says who it is; the collector adds both (src/collector/front.ts).
 *
 * Plain additions need a program that nothing interrupts which uses the same slots: one on a hook that is not reached from
 * an interrupt, with preemption off. Others mark the slot that they are at.
 */
#ifndef SONDE_FRONT_H
#define SONDE_FRONT_H

#include "turns.bpf.h"

/* False: who was interrupted, on this CPU, is at this slot; the event goes to the entry. */
static __always_inline bool front_enter(volatile u64 *busy)
{
	if (*busy)
		return false;
	*busy = 1;
	barrier();
	return true;
}

/*
 * The same for programs that the scheduler may interrupt: two that have both found a slot free go on in any order. Needs an
 * instruction of 5.12.
 */
static __always_inline bool front_enter_preempted(u64 *busy)
{
	bool mine = !__sync_lock_test_and_set(busy, 1);

	barrier();
	return mine;
}

static __always_inline void front_leave(volatile u64 *busy)
{
	barrier();
	*busy = 0;
}

/* A key that finds its slot taken has it with each so manyth event that goes to its entry. */
#define FRONT_PATIENCE 16

/*
 * `name`_cpu: 2^`bits` slots for each turn, before the maps `name`_0 and `name`_1. In their values the sums, `words` of
 * 64 bits, begin with the member `first`. The key has 8 bytes, which are not all 0.
 */
#define DEFINE_FRONT(name, key_type, value_type, first, words, bits) \
	DEFINE_FRONT_OF(name, key_type, value_type, first, words, bits, )

/* The same for programs that may interrupt each other: they touch a slot only between front_enter and front_leave. */
#define DEFINE_SHARED_FRONT(name, key_type, value_type, first, words, bits) \
	DEFINE_FRONT_OF(name, key_type, value_type, first, words, bits, u64 busy;)

#define DEFINE_FRONT_OF(name, key_type, value_type, first, words, bits, guard) \
struct name##_slot { \
	u64 key; \
	guard \
	u64 sums[words]; \
}; \
\
struct name##_slots { \
	struct name##_slot slots[1 << (bits)]; \
}; \
\
struct { \
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
	__uint(max_entries, 2); /* by turn */ \
	__type(key, u32); \
	__type(value, struct name##_slots); \
} name##_cpu SEC(".maps"); \
\
static __always_inline struct name##_slot *name##_slot_of(u32 turn, u64 key) \
{ \
	struct name##_slots *mine = bpf_map_lookup_elem(&name##_cpu, &turn); \
\
	return mine ? &mine->slots[(key * 0x9e3779b97f4a7c15ull) >> (64 - (bits))] : NULL; \
} \
\
/* After `value`, the entry of `key`, was added to `times` times: gives it the slot, if that is its turn. */ \
static __always_inline void name##_settle(u32 turn, struct name##_slot *slot, u64 key, u64 times) \
{ \
	u64 before = slot->key; \
\
	if (before && times % FRONT_PATIENCE) \
		return; \
	if (before) { \
		value_type *value = name##_find_in(turn, (key_type *)&before); \
\
		if (!value) \
			return; /* cannot be: it has an entry */ \
		_Pragma("unroll") for (u32 word = 0; word < (words); word++) \
			if (slot->sums[word]) \
				TURN_ADD(((u64 *)&value->first)[word], slot->sums[word]); \
	} \
	slot->key = key; \
	__builtin_memset(slot->sums, 0, sizeof(slot->sums)); \
}

#endif
