// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// BTF tracepoints, one question a program: does it load, attach and run, and what do helpers
// answer in it.
#include "kernel.bpf.h"

#define TCP_ESTABLISHED 1

struct item {
  __u64 total;
  __u64 claimed;
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __type(key, __u64);
  __type(value, struct item);
} plain_hash SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1024);
  __type(key, __u64);
  __type(value, struct item);
} lazy_hash SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct item);
} storage SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 65536);
} ring SEC(".maps");

static __always_inline struct item *item_of(void *map, __u64 key) {
  struct item fresh = {.total = 100};
  struct item *it = bpf_map_lookup_elem(map, &key);
  if (it)
    return it;
  bpf_map_update_elem(map, &key, &fresh, BPF_NOEXIST);
  return bpf_map_lookup_elem(map, &key);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(set_state, struct sock *sk, int old, int new) {
  note(new > 0 && new != old, sk->__sk_common.skc_family);
  return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(send_length, struct sock *sk, int ret) {
  note(ret > 0, ret);
  return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(recv_length, struct sock *sk, int ret) {
  note(ret > 0, ret);
  return 0;
}

SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(rcv_space, struct sock *sk) {
  note(true, sk->__sk_common.skc_family);
  return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(receive_reset, struct sock *sk) {
  note(true, sk->__sk_common.skc_family);
  return 0;
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(send_reset, struct sock *sk) {
  note(sk != 0, 0);
  return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(destroy_sock, struct sock *sk) {
  note(true, sk->__sk_common.skc_family);
  return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(drop_reason, void *skb, void *location, int reason) {
  note(reason > 1, reason);
  return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task) {
  note(task->tgid > 0, task->tgid);
  return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task) {
  note(task->tgid > 0, task->tgid);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(pid_in_state, struct sock *sk, int old, int new) {
  __u32 tgid = bpf_get_current_pid_tgid() >> 32;
  note(tgid == traffic_tgid, tgid);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(cgid_in_state, struct sock *sk, int old, int new) {
  __u64 id = bpf_get_current_cgroup_id();
  note(id > 0, id);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(cookie_in_state, struct sock *sk, int old, int new) {
  __u64 cookie = bpf_get_socket_cookie(sk);
  note(cookie > 0, cookie);
  return 0;
}

/* Asks for the cookie when a socket is made and on each packet, so that it is there to be read. */
SEC("cgroup/sock_create")
int cookie_at_birth(struct bpf_sock *ctx) {
  bpf_get_socket_cookie(ctx);
  return 1;
}

SEC("cgroup_skb/ingress")
int cookie_at_packet(struct __sk_buff *skb) {
  bpf_get_socket_cookie(skb);
  return 1;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(cookie_by_read, struct sock *sk, int old, int new) {
  __u64 cookie = sk->__sk_common.skc_cookie.counter;
  note(cookie > 0, cookie);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(address_key, struct sock *sk, int old, int new) {
  __u64 key = (__u64)sk;
  struct item fresh = {.total = 1};
  bpf_map_update_elem(&plain_hash, &key, &fresh, BPF_ANY);
  note(bpf_map_lookup_elem(&plain_hash, &key) != 0, 1);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(counters_by_read, struct sock *sk, int old, int new) {
  __u64 sent = 0;
  bpf_core_read(&sent, sizeof(sent), &((struct tcp_sock *)sk)->bytes_sent);
  note(sent > 0, sent);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(counters_by_cast, struct sock *sk, int old, int new) {
  struct tcp_sock *tp = (struct tcp_sock *)sk;
  note(tp->bytes_sent > 0, tp->bytes_sent);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_counters, struct sock *sk, int old, int new) {
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (tp)
    note(tp->bytes_received > 0, tp->bytes_received);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(storage_in_tp, struct sock *sk, int old, int new) {
  struct item *it = bpf_sk_storage_get(&storage, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  note(it != 0, 1);
  return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(task_btf, struct task_struct *ignored) {
  struct task_struct *task = bpf_get_current_task_btf();
  note(task->start_time > 0, task->tgid);
  return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(task_read, struct task_struct *ignored) {
  struct task_struct *task = (struct task_struct *)bpf_get_current_task();
  __u64 start = BPF_CORE_READ(task, start_time);
  note(start > 0, start);
  return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(boot_ns, struct task_struct *task) {
  __u64 now = bpf_ktime_get_boot_ns();
  note(now > 0, now);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(atomic_cmpxchg, struct sock *sk, int old, int new) {
  struct item *it = item_of(&plain_hash, 1);
  if (!it)
    return 0;
  __u64 was = it->total;
  note(__sync_val_compare_and_swap(&it->total, was, was + 1) == was, was);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(atomic_xchg, struct sock *sk, int old, int new) {
  struct item *it = item_of(&plain_hash, 2);
  if (it)
    note(__sync_lock_test_and_set(&it->claimed, 7) <= 7, 7);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(atomic_fetch, struct sock *sk, int old, int new) {
  struct item *it = item_of(&plain_hash, 3);
  if (it)
    note(__sync_fetch_and_add(&it->total, 1) >= 100, 1);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(atomic_add, struct sock *sk, int old, int new) {
  struct item *it = item_of(&plain_hash, 4);
  if (!it)
    return 0;
  __sync_fetch_and_add(&it->total, 1);
  note(it->total > 100, it->total);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(claim_by_key, struct sock *sk, int old, int new) {
  // where no compare-and-exchange is to be had: of all who add one key, one wins, and deletes
  // it when done
  __u64 key = 5;
  struct item mine = {};
  long rc = bpf_map_update_elem(&plain_hash, &key, &mine, BPF_NOEXIST);
  if (!rc)
    bpf_map_delete_elem(&plain_hash, &key);
  note(rc == 0, 1);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(lazy_in_tp, struct sock *sk, int old, int new) {
  note(item_of(&lazy_hash, 6) != 0, 1);
  return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(ring_in_tp, struct sock *sk, int old, int new) {
  __u64 *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
  if (record) {
    *record = 1;
    bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
  }
  note(record != 0, 1);
  return 0;
}
