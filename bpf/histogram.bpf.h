/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Exponential histograms with one bucket a doubling: OpenTelemetry's scale 0, so that they go into a measure of
 * `scale: 0` without loss. Slot 0 holds the value 0, slot i > 0 the values in (2^(i - 2), 2^(i - 1)], the bucket i - 2 of that
 * scale; the last slot holds also all above: 2^38 ns are 275 s. Decoder: probes/slots.ts.
 */
#ifndef SONDE_HISTOGRAM_H
#define SONDE_HISTOGRAM_H

#include "kernel.bpf.h"

#define HISTOGRAM_SLOTS 40

struct histogram {
	u64 sum;
	u32 slots[HISTOGRAM_SLOTS]; /* of one interval: 32 bits are enough */
};

/* Position of the highest bit that is set; there is no instruction for it. */
static __always_inline u32 highest_bit(u64 value)
{
	u32 high = value >> 32;
	u32 word = high ? high : value;
	u32 bit = high ? 32 : 0;
	u32 step;

	step = (word > 0xffff) << 4;
	word >>= step;
	bit |= step;
	step = (word > 0xff) << 3;
	word >>= step;
	bit |= step;
	step = (word > 0xf) << 2;
	word >>= step;
	bit |= step;
	step = (word > 0x3) << 1;
	word >>= step;
	bit |= step;
	return bit | (word >> 1);
}

static __always_inline u32 histogram_slot(u64 value)
{
	u32 slot = value < 2 ? value : highest_bit(value - 1) + 2;

	return slot < HISTOGRAM_SLOTS ? slot : HISTOGRAM_SLOTS - 1;
}

/* For those that nobody else adds to. */
static __always_inline void histogram_add_alone(struct histogram *histogram, u64 value)
{
	u64 slot = histogram_slot(value);

	asm volatile("" : "+r"(slot)); /* as below */
	if (slot < HISTOGRAM_SLOTS)
		histogram->slots[slot] += 1;
	histogram->sum += value;
}

/* For histograms that several CPUs may add to. */
static __always_inline void histogram_add(struct histogram *histogram, u64 value)
{
	u64 slot = histogram_slot(value);

	/* For the verifier, which must see the bound at the very register that is used: 6.1 forgets it over other arithmetic. */
	asm volatile("" : "+r"(slot));
	if (slot < HISTOGRAM_SLOTS)
		__sync_fetch_and_add(&histogram->slots[slot], 1);
	__sync_fetch_and_add(&histogram->sum, value);
}

#endif
