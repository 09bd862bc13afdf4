// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Programs of the root cgroup: packets both ways, socket calls, and which helpers answer in each.
#include "kernel.bpf.h"

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1024);
  __type(key, __u64);
  __type(value, __u64);
} lazy_hash SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 16);
  __type(key, __u64);
  __type(value, __u64);
} plain_hash SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u64);
} storage SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 65536);
} ring SEC(".maps");

SEC("cgroup_skb/ingress")
int skb_in_cookie(struct __sk_buff *skb) {
  __u64 cookie = bpf_get_socket_cookie(skb);
  note(cookie > 0, cookie);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_out_cookie(struct __sk_buff *skb) {
  __u64 cookie = bpf_get_socket_cookie(skb);
  note(cookie > 0, cookie);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_out_pid(struct __sk_buff *skb) {
  __u32 tgid = bpf_get_current_pid_tgid() >> 32;
  note(tgid == traffic_tgid, tgid);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_out_cgid(struct __sk_buff *skb) {
  __u64 id = bpf_skb_cgroup_id(skb);
  note(id > 0, id);
  return 1;
}

SEC("cgroup_skb/ingress")
int skb_in_cgid(struct __sk_buff *skb) {
  __u64 id = bpf_skb_cgroup_id(skb);
  note(id > 0, id);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_cur_cgid(struct __sk_buff *skb) {
  __u64 id = bpf_get_current_cgroup_id();
  note(id > 0, id);
  return 1;
}

SEC("cgroup_skb/ingress")
int skb_in_sk_cgid(struct __sk_buff *skb) {
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return 1;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return 1;
  __u64 id = bpf_sk_cgroup_id(sk);
  note(id > 0, id);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_task_btf(struct __sk_buff *skb) {
  struct task_struct *task = bpf_get_current_task_btf();
  note(task->tgid > 0, task->tgid);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_tcp_sock(struct __sk_buff *skb) {
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return 1;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (tp)
    note(tp->bytes_sent > 0, tp->bytes_sent);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_tcp_stream(struct __sk_buff *skb) {
  // the kernel's own socket for resets is raw with protocol TCP: bpf_skc_to_tcp_sock takes it
  // for a tcp_sock
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return 1;
  sk = bpf_sk_fullsock(sk);
  if (!sk || sk->type != 1)
    return 1;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (tp)
    note(tp->bytes_sent > 0, tp->bytes_sent);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_address_key(struct __sk_buff *skb) {
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return 1;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (!tp)
    return 1;
  __u64 key = (__u64)tp, one = 1;
  bpf_map_update_elem(&plain_hash, &key, &one, BPF_ANY);
  note(bpf_map_lookup_elem(&plain_hash, &key) != 0, key);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_pid_by_read(struct __sk_buff *skb) {
  struct task_struct *task = (struct task_struct *)bpf_get_current_task();
  __u32 tgid = BPF_CORE_READ(task, tgid);
  note(tgid == traffic_tgid, tgid);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_bytes_read(struct __sk_buff *skb) {
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return 1;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (!tp)
    return 1;
  __u64 sent = BPF_CORE_READ(tp, bytes_sent);
  note(sent > 0, sent);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_storage(struct __sk_buff *skb) {
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return 1;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return 1;
  note(bpf_sk_storage_get(&storage, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) != 0, 1);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_lazy_hash(struct __sk_buff *skb) {
  __u64 key = 1, one = 1;
  bpf_map_update_elem(&lazy_hash, &key, &one, BPF_ANY);
  note(bpf_map_lookup_elem(&lazy_hash, &key) != 0, 1);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_ring(struct __sk_buff *skb) {
  __u64 *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
  if (record) {
    *record = 1;
    bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
  }
  note(record != 0, 1);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_cmpxchg(struct __sk_buff *skb) {
  __u64 key = 1, one = 1;
  __u64 *total = bpf_map_lookup_elem(&plain_hash, &key);
  if (!total) {
    bpf_map_update_elem(&plain_hash, &key, &one, BPF_NOEXIST);
    return 1;
  }
  __u64 was = *total;
  note(__sync_val_compare_and_swap(total, was, was + 1) == was, was);
  return 1;
}

SEC("cgroup_skb/egress")
int skb_boot_ns(struct __sk_buff *skb) {
  __u64 now = bpf_ktime_get_boot_ns();
  note(now > 0, now);
  return 1;
}

SEC("cgroup/connect4")
int connect4_pid(struct bpf_sock_addr *ctx) {
  __u32 tgid = bpf_get_current_pid_tgid() >> 32;
  note(tgid == traffic_tgid, tgid);
  return 1;
}

SEC("cgroup/connect4")
int connect4_cgid(struct bpf_sock_addr *ctx) {
  __u64 id = bpf_get_current_cgroup_id();
  note(id > 0, id);
  return 1;
}

SEC("cgroup/connect4")
int connect4_cookie(struct bpf_sock_addr *ctx) {
  __u64 cookie = bpf_get_socket_cookie(ctx);
  note(cookie > 0, cookie);
  return 1;
}

SEC("cgroup/connect4")
int connect4_task(struct bpf_sock_addr *ctx) {
  struct task_struct *task = bpf_get_current_task_btf();
  note(task->tgid > 0, task->tgid);
  return 1;
}

SEC("cgroup/sendmsg4")
int sendmsg4_pid(struct bpf_sock_addr *ctx) {
  __u32 tgid = bpf_get_current_pid_tgid() >> 32;
  note(tgid == traffic_tgid, tgid);
  return 1;
}

SEC("cgroup/sendmsg4")
int sendmsg4_cgid(struct bpf_sock_addr *ctx) {
  __u64 id = bpf_get_current_cgroup_id();
  note(id > 0, id);
  return 1;
}

SEC("cgroup/sendmsg4")
int sendmsg4_cookie(struct bpf_sock_addr *ctx) {
  __u64 cookie = bpf_get_socket_cookie(ctx);
  note(cookie > 0, cookie);
  return 1;
}

SEC("cgroup/recvmsg4")
int recvmsg4_pid(struct bpf_sock_addr *ctx) {
  __u32 tgid = bpf_get_current_pid_tgid() >> 32;
  note(tgid == traffic_tgid, tgid);
  return 1;
}

SEC("cgroup/recvmsg4")
int recvmsg4_cgid(struct bpf_sock_addr *ctx) {
  __u64 id = bpf_get_current_cgroup_id();
  note(id > 0, id);
  return 1;
}

SEC("cgroup/recvmsg4")
int recvmsg4_cookie(struct bpf_sock_addr *ctx) {
  __u64 cookie = bpf_get_socket_cookie(ctx);
  note(cookie > 0, cookie);
  return 1;
}

SEC("cgroup/sock_create")
int create_pid(struct bpf_sock *ctx) {
  __u32 tgid = bpf_get_current_pid_tgid() >> 32;
  note(tgid == traffic_tgid, tgid);
  return 1;
}

SEC("cgroup/sock_create")
int create_cookie(struct bpf_sock *ctx) {
  __u64 cookie = bpf_get_socket_cookie(ctx);
  note(cookie > 0, cookie);
  return 1;
}

SEC("cgroup/post_bind4")
int post_bind4_pid(struct bpf_sock *ctx) {
  __u32 tgid = bpf_get_current_pid_tgid() >> 32;
  note(tgid == traffic_tgid, tgid);
  return 1;
}

SEC("cgroup/post_bind4")
int post_bind4_cgid(struct bpf_sock *ctx) {
  __u64 id = bpf_get_current_cgroup_id();
  note(id > 0, id);
  return 1;
}

SEC("cgroup/post_bind4")
int post_bind4_cookie(struct bpf_sock *ctx) {
  __u64 cookie = bpf_get_socket_cookie(ctx);
  note(cookie > 0, cookie);
  return 1;
}

SEC("cgroup/sock_release")
int release_pid(struct bpf_sock *ctx) {
  __u32 tgid = bpf_get_current_pid_tgid() >> 32;
  note(tgid == traffic_tgid, tgid);
  return 1;
}

SEC("cgroup/sock_release")
int release_cgid(struct bpf_sock *ctx) {
  __u64 id = bpf_get_current_cgroup_id();
  note(id > 0, id);
  return 1;
}

SEC("cgroup/sock_release")
int release_cookie(struct bpf_sock *ctx) {
  __u64 cookie = bpf_get_socket_cookie(ctx);
  note(cookie > 0, cookie);
  return 1;
}

SEC("cgroup/sock_release")
int release_ring(struct bpf_sock *ctx) {
  __u64 *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
  if (record) {
    *record = 1;
    bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
  }
  note(record != 0, 1);
  return 1;
}

SEC("sockops")
int sockops_cookie(struct bpf_sock_ops *ctx) {
  __u64 cookie = bpf_get_socket_cookie(ctx);
  note(cookie > 0, ctx->op);
  return 1;
}
