// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Iterators: sweeps over a map, over open files, and over the sockets of one network namespace.
#include "kernel.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_iter__bpf_map_elem {
  struct bpf_iter_meta *meta;
  struct bpf_map *map;
  void *key;
  void *value;
};
struct bpf_iter__task_file {
  struct bpf_iter_meta *meta;
  struct task_struct *task;
  __u32 fd;
  struct file *file;
};
struct bpf_iter__tcp {
  struct bpf_iter_meta *meta;
  struct sock_common *sk_common;
  __u32 uid;
};
struct bpf_iter__bpf_sk_storage_map {
  struct bpf_iter_meta *meta;
  struct bpf_map *map;
  struct sock *sk;
  void *value;
};
#pragma clang attribute pop

/* Filled from user space before the sweep. */
struct entry {
  __u64 unused;
  __u64 total;
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1024);
  __type(key, __u64);
  __type(value, struct entry);
} swept SEC(".maps");

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

SEC("iter/bpf_map_elem")
int elem_ring(struct bpf_iter__bpf_map_elem *ctx) {
  __u64 *key = ctx->key;
  struct entry *value = ctx->value;
  if (!key || !value)
    return 0;
  __u64 k = *key;
  __u64 word = 0;
  struct entry *again = bpf_map_lookup_elem(&swept, &k);
  struct task_struct *task = (struct task_struct *)bpf_get_current_task();
  long rc = bpf_probe_read_kernel(&word, sizeof(word), task);
  __u64 *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
  if (!record)
    return 0;
  // nothing may be asked of `record` after the submit: 5.10 and 6.1 then see a reference that
  // was not released
  *record = word;
  bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
  note(again && rc == 0, k);
  return 0;
}

SEC("iter/bpf_map_elem")
int elem_cmpxchg(struct bpf_iter__bpf_map_elem *ctx) {
  __u64 *key = ctx->key;
  if (!key)
    return 0;
  __u64 k = *key;
  struct entry *it = bpf_map_lookup_elem(&swept, &k);
  if (!it)
    return 0;
  __u64 was = it->total;
  note(__sync_val_compare_and_swap(&it->total, was, was + 1) == was, was);
  return 0;
}

SEC("iter/bpf_map_elem")
int elem_delete(struct bpf_iter__bpf_map_elem *ctx) {
  __u64 *key = ctx->key;
  if (!key)
    return 0;
  __u64 k = *key;
  note(bpf_map_delete_elem(&swept, &k) == 0, k);
  return 0;
}

SEC("iter/task_file")
int file_helper(struct bpf_iter__task_file *ctx) {
  struct file *file = ctx->file;
  struct task_struct *task = ctx->task;
  if (!file || !task)
    return 0;
  struct socket *sock = bpf_sock_from_file(file);
  if (sock)
    note(task->tgid > 0, task->tgid);
  return 0;
}

SEC("iter/task_file")
int file_private(struct bpf_iter__task_file *ctx) {
  struct file *file = ctx->file;
  struct task_struct *task = ctx->task;
  if (!file || !task)
    return 0;
  note(file->private_data != 0, task->tgid);
  return 0;
}

SEC("iter/task_file")
int file_cookie(struct bpf_iter__task_file *ctx) {
  struct file *file = ctx->file;
  if (!file)
    return 0;
  struct socket *sock = bpf_sock_from_file(file);
  if (!sock)
    return 0;
  struct sock *sk = sock->sk;
  if (!sk)
    return 0;
  __u64 cookie = bpf_get_socket_cookie(sk);
  note(cookie > 0, cookie);
  return 0;
}

SEC("iter/task_file")
int file_storage(struct bpf_iter__task_file *ctx) {
  struct file *file = ctx->file;
  if (!file)
    return 0;
  struct socket *sock = bpf_sock_from_file(file);
  if (!sock)
    return 0;
  struct sock *sk = sock->sk;
  if (!sk)
    return 0;
  note(bpf_sk_storage_get(&storage, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) != 0, 1);
  return 0;
}

SEC("iter/task_file")
int file_map_write(struct bpf_iter__task_file *ctx) {
  if (!ctx->file)
    return 0;
  __u64 key = ctx->fd;
  struct entry fresh = {};
  note(bpf_map_update_elem(&swept, &key, &fresh, BPF_ANY) == 0, key);
  return 0;
}

SEC("iter/tcp")
int tcp_sweep(struct bpf_iter__tcp *ctx) {
  struct sock_common *sk = ctx->sk_common;
  if (sk)
    note(sk->skc_family > 0, sk->skc_family);
  return 0;
}

SEC("iter/bpf_sk_storage_map")
int storage_sweep(struct bpf_iter__bpf_sk_storage_map *ctx) {
  struct sock *sk = ctx->sk;
  if (sk && ctx->value)
    note(sk->__sk_common.skc_family > 0, sk->__sk_common.skc_family);
  return 0;
}
