// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// bpf_spin_lock, by itself: its map cannot even be made where the lock is unknown, which would
// fail its neighbours.
#include "kernel.bpf.h"

struct locked {
  struct bpf_spin_lock lock;
  __u32 unused;
  __u64 total;
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 16);
  __type(key, __u64);
  __type(value, struct locked);
} locked_hash SEC(".maps");

static __always_inline bool add_one(void) {
  __u64 key = 1;
  struct locked fresh = {};
  struct locked *it = bpf_map_lookup_elem(&locked_hash, &key);
  if (!it) {
    bpf_map_update_elem(&locked_hash, &key, &fresh, BPF_NOEXIST);
    return false;
  }
  bpf_spin_lock(&it->lock);
  it->total++;
  bpf_spin_unlock(&it->lock);
  return true;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(spin_in_tp, struct sock *sk, int old, int new) {
  note(add_one(), 1);
  return 0;
}

SEC("cgroup_skb/egress")
int spin_in_skb(struct __sk_buff *skb) {
  note(add_one(), 1);
  return 1;
}
