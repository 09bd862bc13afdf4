/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The one ring from kernel to collector, its wake-up, and the counters of what could not go through it.
 * Reader: src/collector/drain.ts. A record begins with `struct record_head`; its kind names the struct.
 */
#ifndef SONDE_RING_H
#define SONDE_RING_H

#include "kernel.bpf.h"

/* Kinds of records; the TypeScript side reads them from the BTF of this enum. */
enum record_kind {
	RECORD_PROCESS = 1,
	RECORD_FLOW = 2,
	RECORD_HTTP = 3,
	RECORD_CAPTURE = 8,
};

struct record_head {
	u32 kind;
	u32 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20); /* configuration: collector.ring_bytes */
} sonde_ring SEC(".maps");

/* Cumulative counters of the kernel side, one slot for each thing that the ledger accounts for. */
enum kernel_count {
	COUNT_RECORDS = 0,      /* records handed to the ring */
	COUNT_RING_FULL = 1,    /* records that found the ring full: folded into `overflow` */
	COUNT_CONN_FULL = 2,    /* connections without state (map full): counted at their end, owner unknown */
	COUNT_UDP_FULL = 3,     /* datagrams without a flow entry (map full): folded into `overflow` */
	COUNT_NO_OWNER = 4,     /* flow records whose owner is unknown */
	COUNT_PROC_FULL = 5,    /* process records that found the ring full */
	COUNT_STALE = 6,        /* connection entries overwritten because their end was not seen */
	COUNT_NO_PEER = 7,      /* datagrams whose peer the socket does not name */
	COUNT_OWNER_SOUGHT = 8, /* a sweep met a connection without an owner: look through the open files */
	COUNT_MENDED = 9,       /* connections whose begin or end the kernel skipped, found by other hooks */
	COUNT_FRAGMENTS = 10,   /* packets without a transport header (later fragments), not looked at */
	COUNT_HTTP_FULL = 11,   /* records of requests that found the ring full: folded into `http_rests` */
	COUNT_HTTP_CONN_FULL = 12, /* requests whose connection found the map full: the same */
	COUNT_MAX = 13,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNT_MAX);
	__type(key, u32);
	__type(value, u64);
} sonde_counts SEC(".maps");

/* Wake the reader when this much waits; until then it comes by its own timer. */
const volatile u32 ring_wake_bytes = 256 << 10;

static __always_inline void count(u32 what)
{
	u64 *slot = bpf_map_lookup_elem(&sonde_counts, &what);

	if (slot) /* atomic: a softirq may interrupt a program of the same CPU between load and store */
		__sync_fetch_and_add(slot, 1);
}

/*
 * Flags that submit without waking the reader (a wake costs 1-2 us in the producer) but for once each time that
 * `ring_wake_bytes` more wait.
 */
static __always_inline u64 ring_flags(u32 size)
{
	u64 waiting = bpf_ringbuf_query(&sonde_ring, BPF_RB_AVAIL_DATA);

	if (waiting >= ring_wake_bytes && waiting % ring_wake_bytes < size)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* Copies a record into the ring; false: it is full, and the caller keeps the counts elsewhere. */
static __always_inline bool ring_output(void *record, u32 size)
{
	if (bpf_ringbuf_output(&sonde_ring, record, size, ring_flags(size)))
		return false;
	count(COUNT_RECORDS);
	return true;
}

/* A sweep stops here and goes on in its next pass, rather than fill the ring. */
static __always_inline bool ring_nearly_full(void)
{
	u64 size = bpf_ringbuf_query(&sonde_ring, BPF_RB_RING_SIZE);

	return bpf_ringbuf_query(&sonde_ring, BPF_RB_AVAIL_DATA) > size - size / 4;
}

#endif
