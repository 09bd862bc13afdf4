/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Packets and bytes of every cgroup, both ways, by the two programs at the root that see all packets: not one program for
 * each cgroup. Counted by the v2 cgroup of the socket, in maps that are taken out in turns: what a cgroup did while it was
 * removed is counted, and nothing of it stays. Reader: probes/cgroup/cgroup.ts.
 */
#ifndef SONDE_CGROUP_H
#define SONDE_CGROUP_H

#include "../../bpf/packet.bpf.h"
#include "../../bpf/front.bpf.h"

#define CGROUPS_MAX 8192 /* that have packets within one interval */
#define CGROUP_PATH_MAX 320

enum cgroup_slot {
	CGROUP_IPV6 = 1, /* else IPv4 */
	CGROUP_EGRESS = 2, /* else ingress */
	CGROUP_SLOTS = 4,
};

struct cgroup_traffic {
	u64 packets[CGROUP_SLOTS]; /* as the kernel handles them: before it cuts into segments, after it joins them */
	u64 bytes[CGROUP_SLOTS]; /* with the headers from the network's on */
	u64 joined[CGROUP_SLOTS]; /* segments beyond the first within such a packet */
};

#define CGROUP_WORDS (sizeof(struct cgroup_traffic) / sizeof(u64))

DEFINE_TURNS_FLAGS(cgroup_traffic, u64, struct cgroup_traffic, CGROUPS_MAX, BPF_F_NO_PREALLOC)
DEFINE_SHARED_FRONT(cgroup_traffic, u64, struct cgroup_traffic, packets, CGROUP_WORDS, 3)
DEFINE_TURNS(cgroup_rest, u32, struct cgroup_traffic, 1) /* of cgroups that found no room above */

struct cgroup_name {
	char path[CGROUP_PATH_MAX]; /* ends with NUL */
};

/* Paths of cgroups by id, as they are made: one that is gone by the end of the interval has its name. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CGROUPS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* an interval makes few */
	__type(key, u64);
	__type(value, struct cgroup_name);
} cgroup_made SEC(".maps");

/* Ids of those that the kernel has let go of, sockets and all: their names can be forgotten. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CGROUPS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u8);
} cgroup_gone SEC(".maps");

static __always_inline void cgroup_add(struct cgroup_traffic *traffic, u32 slot, u32 bytes,
				       u32 segments)
{
	slot &= CGROUP_SLOTS - 1; /* for the verifier */
	TURN_ADD(traffic->packets[slot], 1);
	TURN_ADD(traffic->bytes[slot], bytes);
	if (segments > 1)
		TURN_ADD(traffic->joined[slot], segments - 1);
}

/* Rare: the first packet of a cgroup in an interval. `id` becomes 0 where the cgroup finds no room. */
static __noinline struct cgroup_traffic *cgroup_fresh(bool turn, u64 *id)
{
	struct cgroup_traffic fresh = {}, *traffic;
	u32 zero = 0;

	if (!id)
		return NULL;
	traffic = cgroup_traffic_make_in(turn, id, &fresh);
	if (traffic)
		return traffic;
	count(COUNT_CGROUP_FULL);
	*id = 0;
	return cgroup_rest_make_in(turn, &zero, &fresh);
}

static __always_inline u32 cgroup_slot_of(struct __sk_buff *skb, bool ingress)
{
	return (skb->protocol == bpf_htons(PACKET_IPV6) ? CGROUP_IPV6 : 0) |
	       (ingress ? 0 : CGROUP_EGRESS);
}

static __always_inline void cgroup_at_entry(struct __sk_buff *skb, u64 known, bool turn,
					    bool ingress, bool atomics)
{
	struct cgroup_traffic_slot *slot;
	u64 id = known;
	struct cgroup_traffic *traffic = cgroup_traffic_find_in(turn, &id);

	if (!traffic)
		traffic = cgroup_fresh(turn, &id);
	if (!traffic)
		return;
	cgroup_add(traffic, cgroup_slot_of(skb, ingress), skb->len, skb->gso_segs);
	slot = atomics && id ? cgroup_traffic_slot_of(turn, id) : NULL;
	if (slot && front_enter_preempted(&slot->busy)) {
		cgroup_traffic_settle(turn, slot, id, traffic->bytes[0] ^ traffic->bytes[2]);
		front_leave(&slot->busy);
	}
}

/* False: the cgroup has no slot of this CPU. */
static __always_inline bool cgroup_at_slot(struct __sk_buff *skb, u64 id, u32 turn, bool ingress)
{
	struct cgroup_traffic_slot *slot = cgroup_traffic_slot_of(turn, id);
	u32 which = cgroup_slot_of(skb, ingress);
	bool hit;

	if (!slot || !id || !front_enter_preempted(&slot->busy))
		return false;
	hit = slot->key == id;
	if (hit) {
		slot->sums[which] += 1;
		slot->sums[CGROUP_SLOTS + which] += skb->len;
		if (skb->gso_segs > 1)
			slot->sums[2 * CGROUP_SLOTS + which] += skb->gso_segs - 1;
	}
	front_leave(&slot->busy);
	return hit;
}

/* Ids of v1 hierarchies are numbers of their own. */
static __always_inline bool is_unified(struct cgroup *cgroup)
{
	return cgroup->root->hierarchy_id == 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	struct cgroup_name name = {};
	u64 id = cgroup->kn->id;

	if (!is_unified(cgroup))
		return 0;
	if (bpf_probe_read_kernel_str(name.path, sizeof(name.path), path) < CGROUP_PATH_MAX)
		bpf_map_update_elem(&cgroup_made, &id, &name, BPF_ANY);
	return 0; /* what was cut, or finds the map full, is looked for in the tree */
}

SEC("tp_btf/cgroup_release")
int BPF_PROG(cgroup_release, struct cgroup *cgroup, const char *path)
{
	u64 id = cgroup->kn->id;
	u8 one = 1;

	if (is_unified(cgroup))
		bpf_map_update_elem(&cgroup_gone, &id, &one, BPF_ANY);
	return 0;
}

#endif
