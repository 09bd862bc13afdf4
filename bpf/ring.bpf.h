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
	RECORD_BASH = 5,
	RECORD_EXEC = 20,
	RECORD_HTTP2 = 6,
	RECORD_DNS = 4,
	RECORD_CAPTURE = 8,
	RECORD_PROCESS_EVENT = 9,
	RECORD_DB = 10,
	RECORD_NAT = 11, /* struct flow_record: a TCP connection's ends, and its peer after NAT */
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
	COUNT_RECORDS, /* records handed to the ring */
	COUNT_RING_FULL, /* records that found the ring full: folded into `overflow` */
	COUNT_CONN_FULL, /* connections without state (map full): counted at their end, owner unknown */
	COUNT_UDP_FULL, /* datagrams without a flow entry (map full): folded into `overflow` */
	COUNT_NO_OWNER, /* flow records whose owner is unknown */
	COUNT_PROC_FULL, /* process records that found the ring full */
	COUNT_STALE, /* connection entries overwritten because their end was not seen */
	COUNT_NO_PEER, /* datagrams whose peer the socket does not name */
	COUNT_OWNER_SOUGHT, /* a sweep met a connection without an owner: look through the open files */
	COUNT_MENDED, /* connections whose begin or end the kernel skipped, found by other hooks */
	COUNT_FRAGMENTS, /* packets without a transport header (later fragments), not looked at */
	COUNT_CGROUP_FULL, /* packets of cgroups beyond the map's size: folded into one row */
	COUNT_SYSCALL_FULL, /* system calls counted without their process (map full) */
	COUNT_TCPSTATE_FULL, /* changes of state counted without their network namespace (map full) */
	COUNT_TOTALS_FULL, /* totals of a process kept without it (map full) */
	COUNT_TASK_FULL, /* tasks without room for what was reported of them: not counted */
	COUNT_OOM_FULL, /* processes killed for want of memory beyond what one interval holds */
	COUNT_BLOCK_FULL, /* requests of more block devices than the map holds */
	COUNT_HTTP_FULL, /* records of requests that found the ring full: folded into `http_rests` */
	COUNT_HTTP_CONN_FULL, /* requests whose connection found the map full: the same */
	COUNT_HTTP2_LOST, /* directions of HTTP/2 connections that were not followed any more */
	COUNT_HTTP2_RING, /* records of HTTP/2 that found the ring full */
	COUNT_HTTP2_FULL, /* HTTP/2 connections without state (no memory) */
	COUNT_DNS_FULL, /* DNS packets that found the ring full: lost */
	COUNT_NAT_LOST, /* connections whose address after NAT was pushed out of its map */
	COUNT_DROP_FULL, /* packets that the kernel dropped, not counted (map full) */
	COUNT_BASH_FULL, /* lines of bash that found the ring full */
	COUNT_EXEC_FULL, /* announced execs that found the ring full: found by the next look at all processes */
	COUNT_BASH_UNREAD, /* lines of bash whose memory could not be read */
	COUNT_TLS_CONN_FULL, /* calls of TLS libraries on sessions that found the map full: not looked at */
	COUNT_PROCESS_EVENTS, /* begins, execs and ends of processes that found the ring full: lost */
	COUNT_UDP_COARSE, /* datagrams counted without their flow: the source is over its budget */
	COUNT_SYSCALL_COARSE, /* system calls counted without their process: the source is over its budget */
	COUNT_DB_FULL, /* packets of databases that found the ring full: lost */
	COUNT_OWNER_CHANGES, /* changes of owner beyond those that are told apart: the bytes are all the next owner's */
	COUNT_MAX,
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
