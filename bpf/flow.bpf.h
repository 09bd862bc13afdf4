/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A flow record: what happened on one socket since its last record. All counts are deltas claimed from the socket's
 * state, so that the sum of a socket's records is its exact total. Decoder: probes/netflow.ts.
 */
#ifndef SONDE_FLOW_H
#define SONDE_FLOW_H

#include "identity.bpf.h"

enum flow_flag {
	FLOW_ESTABLISHED = 1,  /* first record of a connection that was established */
	FLOW_CLOSED = 2,       /* last record */
	FLOW_FAILED = 4,       /* the connect failed; `error` says why */
	FLOW_PREEXISTING = 8,  /* first record of a connection that is older than sonde: bytes since its start */
	FLOW_OVERFLOW = 16,    /* totals of records that found the ring or a map full; no addresses, no owner */
	FLOW_RESET_IN = 32,    /* the peer sent RST */
	FLOW_RESET_OUT = 64,   /* this end sent RST */
	FLOW_NAT = 128,        /* a destination NAT: nat_addr and nat_port say where the packets go */
};

/* `error` of what has no errno. */
enum flow_error {
	FLOW_NOT_SENT = 4095, /* connect() failed before a SYN; beyond all errnos */
};

enum flow_role {
	ROLE_UNKNOWN = 0,
	ROLE_OUTGOING = 1, /* this end opened the connection, or sent first */
	ROLE_INCOMING = 2,
	ROLE_MAX = 3,
};

/* Of one connection or flow in an interval; beyond, what one owner did goes to the next: a record each would be too many. */
#define OWNER_CHANGES_MAX 64

struct flow_record {
	struct record_head head; /* flags: enum flow_flag */
	struct owner owner;
	s64 bytes_read;
	s64 bytes_written;
	s64 packets_read;
	s64 packets_written;
	s64 retransmits;
	u64 begin_ns; /* CLOCK_MONOTONIC: of connect(), with the first record; of the first datagram; 0: not known */
	u64 connect_ns; /* SYN to established, of the end that connected; 0: none */
	u32 srtt_us; /* 0: no sample */
	u32 rttvar_us;
	u32 netns; /* inode number of the network namespace */
	u32 connections_established; /* 1 or 0; more in an overflow record */
	u32 connections_closed;
	u32 connections_failed;
	u8 local_addr[16]; /* network order; IPv4 in the first four */
	u8 peer_addr[16];
	u16 local_port;
	u16 peer_port;
	u8 family; /* AF_INET or AF_INET6; IPv4-mapped addresses are reported as AF_INET */
	u8 transport; /* IPPROTO_TCP or IPPROTO_UDP */
	u8 role; /* enum flow_role */
	u8 unused;
	u16 error; /* errno of a failed connect or of the end of the connection */
	u16 nat_port; /* the peer after destination NAT, with FLOW_NAT */
	u8 nat_addr[16];
	u16 unused2[2];
};

/* Totals of records that could not be kept one by one; claimed into an overflow record by the next sweep. */
struct overflow {
	s64 bytes_read;
	s64 bytes_written;
	s64 packets_read;
	s64 packets_written;
	s64 retransmits;
	u64 established;
	u64 closed;
	u64 failed;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * ROLE_MAX); /* transport (TCP, UDP) x role */
	__type(key, u32);
	__type(value, struct overflow);
} sonde_overflow SEC(".maps");

/* 1 once the collector has looked through the open files: a socket without an entry is then no older one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} sonde_swept SEC(".maps");

static __always_inline bool files_swept(void)
{
	u32 zero = 0;
	u32 *swept = bpf_map_lookup_elem(&sonde_swept, &zero);

	return swept && *swept;
}

static __always_inline u32 overflow_slot(u8 transport, u8 role)
{
	return (transport == IPPROTO_UDP ? ROLE_MAX : 0) + (role < ROLE_MAX ? role : 0);
}

/* Keeps the counts of a record for which there was no room. */
static __always_inline void overflow_add(struct flow_record *flow)
{
	u32 slot = overflow_slot(flow->transport, flow->role);
	struct overflow *sum = bpf_map_lookup_elem(&sonde_overflow, &slot);

	count(COUNT_RING_FULL);
	if (!sum)
		return; /* cannot be: the slot is within the array */
	__sync_fetch_and_add(&sum->bytes_read, flow->bytes_read);
	__sync_fetch_and_add(&sum->bytes_written, flow->bytes_written);
	__sync_fetch_and_add(&sum->packets_read, flow->packets_read);
	__sync_fetch_and_add(&sum->packets_written, flow->packets_written);
	__sync_fetch_and_add(&sum->retransmits, flow->retransmits);
	__sync_fetch_and_add(&sum->established, (u64)flow->connections_established);
	__sync_fetch_and_add(&sum->closed, (u64)flow->connections_closed);
	__sync_fetch_and_add(&sum->failed, (u64)flow->connections_failed);
}

static __always_inline void emit_flow(struct flow_record *flow)
{
	if (!flow->owner.tgid)
		count(COUNT_NO_OWNER);
	if (!ring_output(flow, sizeof(*flow)))
		overflow_add(flow);
}

/* Takes what a total holds: later additions stay for the next time. */
#define OVERFLOW_TAKE(sum, field) \
({ \
	typeof((sum)->field) taken = (sum)->field; \
	__sync_fetch_and_add(&(sum)->field, -taken); \
	taken; \
})

static __always_inline void overflow_report(u32 slot)
{
	struct overflow *sum = bpf_map_lookup_elem(&sonde_overflow, &slot);
	struct flow_record flow;

	if (!sum)
		return;
	__builtin_memset(&flow, 0, sizeof(flow));
	flow.bytes_read = OVERFLOW_TAKE(sum, bytes_read);
	flow.bytes_written = OVERFLOW_TAKE(sum, bytes_written);
	flow.packets_read = OVERFLOW_TAKE(sum, packets_read);
	flow.packets_written = OVERFLOW_TAKE(sum, packets_written);
	flow.retransmits = OVERFLOW_TAKE(sum, retransmits);
	flow.connections_established = OVERFLOW_TAKE(sum, established);
	flow.connections_closed = OVERFLOW_TAKE(sum, closed);
	flow.connections_failed = OVERFLOW_TAKE(sum, failed);
	if (!flow.packets_read && !flow.packets_written && !flow.connections_closed &&
	    !flow.connections_failed)
		return;
	flow.head.kind = RECORD_FLOW;
	flow.head.flags = FLOW_OVERFLOW;
	flow.transport = slot < ROLE_MAX ? IPPROTO_TCP : IPPROTO_UDP;
	flow.role = slot % ROLE_MAX;
	flow.family = 0;
	emit_flow(&flow);
}

/* IPv4-mapped IPv6 addresses (::ffff:a.b.c.d) name an IPv4 flow. */
static __always_inline bool is_mapped(const u32 *addr)
{
	return !addr[0] && !addr[1] && addr[2] == bpf_htonl(0xffff);
}

#endif
