// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The fixture of the library's tests: one of each thing that the library handles.
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct task_struct {
	int pid;
	int tgid;
};
struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};
struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *map;
	void *key;
	void *value;
};
#pragma clang attribute pop

enum event_kind {
	EVENT_FIRST = 1,
	EVENT_SECOND = 7,
};

struct address {
	__u8 bytes[16];
	__u16 port;
	__u16 family;
};

struct event {
	__u64 stamp;
	__s64 delta;
	__u32 pid;
	enum event_kind kind;
	struct address from;
	struct address to;
	char comm[16];
	__u32 slots[3];
	__u16 small;
	_Bool flag;
	__s8 tiny;
};

struct holed {
	__u8 first;
	__u32 second;
};

struct task_row {
	__u32 pid;
	__u32 tgid;
};

const volatile __u32 target_tgid = 0;
const volatile __s64 signed_option = 0;
const volatile _Bool enabled = 0;
__u64 hits = 0;
struct holed holed_one = {};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, __u32);
} shares SEC(".maps");

#define LARGE_BYTES (300 * 1024)
struct large {
	__u32 words[LARGE_BYTES / 4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct large);
} pattern SEC(".maps");

// Reports each getppid of the target as one event that carries the number of the call.
SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter, void *regs, long number)
{
	struct event *event;
	__u32 zero = 0, *total;

	if (number != SYSCALL_GETPPID || (bpf_get_current_pid_tgid() >> 32) != target_tgid)
		return 0;
	total = bpf_map_lookup_elem(&totals, &zero);
	if (total)
		(*total)++;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	// One thread calls: an atomic that yields its result is not to be had before 5.12.
	event->stamp = hits++;
	event->delta = -5;
	event->pid = bpf_get_current_pid_tgid();
	event->kind = EVENT_SECOND;
	event->from.port = 0x1234;
	event->to.bytes[15] = 9;
	event->slots[2] = 77;
	event->flag = enabled;
	event->tiny = -3;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (event->stamp % 5 == 4)
		bpf_ringbuf_discard(event, 0);
	else
		bpf_ringbuf_submit(event, 0);
	return 0;
}

// Reports what user space wrote to `pattern`, a record larger than what the reader maps at once.
SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter_large, void *regs, long number)
{
	__u32 zero = 0;
	struct large *large;

	if (number != SYSCALL_GETPPID || (bpf_get_current_pid_tgid() >> 32) != target_tgid)
		return 0;
	large = bpf_map_lookup_elem(&pattern, &zero);
	if (large)
		bpf_ringbuf_output(&events, large, sizeof(*large), 0);
	return 0;
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	__u32 one = 1, *total = bpf_map_lookup_elem(&totals, &one);

	if (total)
		*total += 1;
	return 1;
}

SEC("iter/task")
int each_task(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct task_row row = {};

	if (!task)
		return 0;
	row.pid = task->pid;
	row.tgid = task->tgid;
	bpf_seq_write(context->meta->seq, &row, sizeof(row));
	return 0;
}

SEC("iter/bpf_map_elem")
int each_count(struct bpf_iter__bpf_map_elem *context)
{
	__u32 *key = context->key;
	__u64 *value = context->value;
	__u64 pair[2];

	if (!key || !value)
		return 0;
	pair[0] = *key;
	pair[1] = *value;
	bpf_seq_write(context->meta->seq, pair, sizeof(pair));
	return 0;
}

SEC("uprobe")
int on_call(struct pt_regs *context)
{
	__u32 two = 2, *total = bpf_map_lookup_elem(&totals, &two);

	if (total)
		*total += 1;
	return 0;
}

SEC("perf_event")
int on_sample(void *context)
{
	__u32 three = 3, *total = bpf_map_lookup_elem(&totals, &three);

	if (total)
		*total += 1;
	return 0;
}

struct event unused_event = {};
struct task_row unused_row = {};
