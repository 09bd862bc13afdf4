/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The state of UDP flows: their entries, what was reported of them, and the claims on it. udp.bpf.h tells the whole idea. */
#ifndef SONDE_UDP_FLOW_H
#define SONDE_UDP_FLOW_H

#include "level.bpf.h"
#include "sock.bpf.h"
#include "../nat/nat.bpf.h"

struct udp_key {
	u64 cookie; /* of the socket */
	u8 peer_addr[16];
	u16 peer_port;
	u8 family;
	u8 unused[5];
};

enum udp_total {
	UDP_BYTES_READ = 0,
	UDP_BYTES_WRITTEN = 1,
	UDP_READ = 2,
	UDP_WRITTEN = 3,
	UDP_TOTAL_MAX = 4,
};

enum udp_state {
	UDP_LIVE = 0,
	UDP_IDLE = 1, /* a sweep found it idle; from the next one on it rests, unless something comes */
};

struct udp_flow {
	u64 total[UDP_TOTAL_MAX];
	u64 claimed[UDP_TOTAL_MAX]; /* what was reported */
	u64 first_ns; /* CLOCK_MONOTONIC: of the first datagram */
	u64 last_ns;
	struct owner owner;
	u8 local_addr[16]; /* zero: the socket is bound to the wildcard address */
	u32 netns;
	u16 local_port;
	u8 role; /* who sent first, be it before a silence */
	u8 state;
	u8 owner_changes; /* since the last sweep */
	u8 unused[7];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* configuration: collector.maps.sockets_max */
	__uint(map_flags, BPF_F_NO_PREALLOC); /* memory only for what is open */
	__type(key, struct udp_key);
	__type(value, struct udp_flow);
} udp_flows SEC(".maps");

/*
 * Entries of idle flows rest in the map, so that whoever speaks first after a silence, each end keeps its role. They rest the
 * shorter the more there are.
 */
#define UDP_RESTING_MAX 8192 /* and a quarter of the map */
#define UDP_REST_NS_MAX (3600ULL * 1000 * 1000 * 1000)
#define UDP_REST_NS_MIN (1ULL * 1000 * 1000 * 1000)

struct udp_rest {
	u64 rest_ns; /* 0: not decided yet */
	u64 resting; /* found by this pass of the sweep */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct udp_rest);
} udp_rests SEC(".maps");

/* The peer named in the call that this thread is in. */
struct udp_peer {
	struct udp_key key;
	u8 local_addr[16]; /* that it is sent from; zero: the socket's own, or as the kernel chooses */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1792); /* threads between the begin and the end of a call */
	__type(key, u64); /* pid_tgid */
	__type(value, struct udp_peer);
} udp_peers SEC(".maps");

/* One datagram, one way. */
struct datagram {
	struct udp_key key;
	u64 bytes;
	u8 local_addr[16];
	u32 netns;
	u16 local_port;
	u8 role; /* ROLE_OUTGOING: sent; ROLE_INCOMING: received */
	bool in_process; /* the current process is the one that sent or received it */
};

/* Steps of the source over its budget. */
enum udp_level {
	UDP_WHOLE = 0,
	UDP_TOTALS = 1,
};

/* Adds to the totals of all datagrams that no flow has. `why`: what counts them for the ledger. */
static __always_inline void udp_overflow(struct datagram *gram, u32 why)
{
	u32 slot = overflow_slot(IPPROTO_UDP, gram->role);
	struct overflow *sum = bpf_map_lookup_elem(&sonde_overflow, &slot);

	count(why);
	if (!sum)
		return; /* cannot be: the slot is within the array */
	if (gram->role == ROLE_OUTGOING) {
		__sync_fetch_and_add(&sum->bytes_written, gram->bytes);
		__sync_fetch_and_add(&sum->packets_written, 1);
	} else {
		__sync_fetch_and_add(&sum->bytes_read, gram->bytes);
		__sync_fetch_and_add(&sum->packets_read, 1);
	}
}

/* What was not reported yet, claimed for the caller: 0 when somebody else has it. */
static __always_inline u64 udp_claim(struct udp_flow *flow, u32 what, bool atomics)
{
	u64 before = flow->claimed[what];
	u64 now = flow->total[what];

	if ((s64)(now - before) <= 0)
		return 0;
	if (!atomics)
		flow->claimed[what] = now;
	else if (__sync_val_compare_and_swap(&flow->claimed[what], before, now) != before)
		return 0;
	return now - before;
}

static __always_inline void udp_report(struct udp_key *key, struct udp_flow *from, bool atomics)
{
	struct flow_record flow;

	__builtin_memset(&flow, 0, sizeof(flow));
	flow.bytes_read = udp_claim(from, UDP_BYTES_READ, atomics);
	flow.bytes_written = udp_claim(from, UDP_BYTES_WRITTEN, atomics);
	flow.packets_read = udp_claim(from, UDP_READ, atomics);
	flow.packets_written = udp_claim(from, UDP_WRITTEN, atomics);
	if (!(flow.bytes_read | flow.bytes_written | flow.packets_read | flow.packets_written))
		return;
	flow.head.kind = RECORD_FLOW;
	flow.transport = IPPROTO_UDP;
	flow.family = key->family;
	flow.owner = from->owner;
	flow.role = from->role;
	flow.begin_ns = from->first_ns;
	flow.netns = from->netns;
	flow.local_port = from->local_port;
	flow.peer_port = key->peer_port;
	__builtin_memcpy(flow.local_addr, from->local_addr, sizeof(flow.local_addr));
	__builtin_memcpy(flow.peer_addr, key->peer_addr, sizeof(flow.peer_addr));
	if (nat_enabled && from->role == ROLE_OUTGOING)
		nat_of_flow((struct nat_key *)key, &flow); /* of the same shape */
	emit_flow(&flow);
}

static __always_inline bool is_zero(const u8 *addr)
{
	const u64 *words = (const u64 *)addr;

	return !(words[0] | words[1]);
}

static __noinline int udp_own_flow(struct udp_flow *flow)
{
	if (flow)
		owner_of_current_task(&flow->owner);
	return 0;
}

/* Another process sends or receives: what was until now is reported as the former owner's. In functions of their own: each deep. */
#define DEFINE_UDP_REPORT(way, atomics) \
static __noinline int udp_report_##way(struct udp_key *key, struct udp_flow *flow) \
{ \
	if (key && flow) \
		udp_report(key, flow, atomics); \
	return 0; \
} \
static __noinline int udp_owner_changed_##way(struct udp_key *key, struct udp_flow *flow) \
{ \
	if (!key || !flow) \
		return 0; \
	if (flow->owner.tgid && flow->owner_changes < OWNER_CHANGES_MAX) { \
		flow->owner_changes++; \
		udp_report_##way(key, flow); \
	} else if (flow->owner.tgid) { \
		count(COUNT_OWNER_CHANGES); \
	} \
	udp_own_flow(flow); \
	return 0; \
}

DEFINE_UDP_REPORT(now, true)
DEFINE_UDP_REPORT(510, false)

static __always_inline void udp_add(struct udp_flow *flow, struct datagram *gram, bool atomics)
{
	if (gram->in_process && flow->owner.tgid != current_task_tgid()) {
		if (atomics)
			udp_owner_changed_now(&gram->key, flow);
		else
			udp_owner_changed_510(&gram->key, flow);
	}
	if (gram->role == ROLE_OUTGOING) {
		__sync_fetch_and_add(&flow->total[UDP_BYTES_WRITTEN], gram->bytes);
		__sync_fetch_and_add(&flow->total[UDP_WRITTEN], 1);
	} else {
		__sync_fetch_and_add(&flow->total[UDP_BYTES_READ], gram->bytes);
		__sync_fetch_and_add(&flow->total[UDP_READ], 1);
	}
	if (is_zero(flow->local_addr) && !is_zero(gram->local_addr))
		__builtin_memcpy(flow->local_addr, gram->local_addr, sizeof(flow->local_addr));
	flow->last_ns = bpf_ktime_get_boot_ns();
	if (flow->state != UDP_LIVE)
		flow->state = UDP_LIVE;
}

static __noinline int udp_new_flow(struct datagram *gram)
{
	struct udp_flow flow = {};

	if (!gram)
		return 0;
	__builtin_memcpy(flow.local_addr, gram->local_addr, sizeof(flow.local_addr));
	flow.local_port = gram->local_port;
	flow.netns = gram->netns;
	flow.role = gram->role;
	flow.first_ns = bpf_ktime_get_ns();
	/* NOEXIST: of two threads that come first at once, one makes the entry and both count in it */
	bpf_map_update_elem(&udp_flows, &gram->key, &flow, BPF_NOEXIST);
	return 0;
}

static __always_inline void udp_count(struct datagram *gram, bool atomics)
{
	struct udp_flow *flow = bpf_map_lookup_elem(&udp_flows, &gram->key);

	if (!flow) {
		udp_new_flow(gram);
		flow = bpf_map_lookup_elem(&udp_flows, &gram->key);
	}
	if (flow)
		udp_add(flow, gram, atomics);
	else
		udp_overflow(gram, COUNT_UDP_FULL);
}

/* True: the source does less than all, and what it does is done. */
static __always_inline bool udp_is_reduced(struct datagram *gram)
{
	u32 level = level_of(LEVEL_UDP);

	if (level == UDP_TOTALS)
		udp_overflow(gram, COUNT_UDP_COARSE);
	return level != UDP_WHOLE;
}

#endif
