// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The few kernel types that the capability fixtures touch, relocated by BTF when they load, and
// the one
// result that each of them writes. Kept apart from bpf/ so that a change there cannot change
// what is measured.
#pragma once
#define __VMLINUX_H__
#include <linux/types.h>
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
typedef struct {
  __s64 counter;
} atomic64_t;
struct sock_common {
  __u16 skc_family;
  __u16 skc_num;
  unsigned char skc_state;
  atomic64_t skc_cookie;
};
struct sock {
  struct sock_common __sk_common;
  __u16 sk_type;
  __u16 sk_protocol;
};
struct tcp_sock {
  __u64 bytes_received;
  __u64 bytes_sent;
};
struct socket {
  struct sock *sk;
};
struct file {
  void *private_data;
};
struct task_struct {
  int pid;
  int tgid;
  __u64 start_time;
};
struct seq_file;
struct bpf_iter_meta {
  struct seq_file *seq;
  __u64 session_id;
  __u64 seq_num;
};
#pragma clang attribute pop

/* What one fixture found: its runs, those of them with a good answer, and the last of these. */
struct finding {
  __u64 runs;
  __u64 good;
  __u64 value;
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct finding);
} findings SEC(".maps");

/* The process that makes the traffic. */
const volatile __u32 traffic_tgid = 0;

static __always_inline void note(bool good, __u64 value) {
  __u32 zero = 0;
  struct finding *f = bpf_map_lookup_elem(&findings, &zero);
  if (!f)
    return; // an array of one has its element 0: only the verifier needs this line
  __sync_fetch_and_add(&f->runs, 1);
  if (good) {
    __sync_fetch_and_add(&f->good, 1);
    f->value = value;
  }
}

char LICENSE[] SEC("license") = "GPL";
