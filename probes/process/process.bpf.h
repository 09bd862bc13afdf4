/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every process of the host: its begin (fork), each exec, its end with code, signal and how long it lived. A record for each, in
 * the context of the process itself, so that none of them is missed. Threads are no processes. Decoder: probes/process/process.ts.
 */
#ifndef SONDE_PROCESS_H
#define SONDE_PROCESS_H

#include "../../bpf/identity.bpf.h"

#define PROCESS_PATH_MAX 128
#define PROCESS_ARGS_MAX 256
#define SIGNAL_GROUP_EXIT 4

enum process_event_kind {
	PROCESS_FORK = 1,
	PROCESS_EXEC = 2,
	PROCESS_EXIT = 3,
};

enum process_event_flag {
	PROCESS_PATH_CUT = 1,
	PROCESS_ARGS_CUT = 2,
};

struct process_event {
	struct record_head head; /* flags: enum process_event_flag */
	u64 time_ns; /* CLOCK_BOOTTIME */
	u64 start_ns; /* of the process */
	u64 cgroup_id;
	u32 tgid;
	u32 ppid;
	u32 uid;
	u32 status; /* of an exit: as wait() tells it */
	u16 event; /* enum process_event_kind */
	u16 args_length; /* of an exec, where arguments are asked for */
	u32 unused;
	char comm[16];
};

struct process_exec_event {
	struct process_event event;
	char path[PROCESS_PATH_MAX]; /* as it was given to exec; ends with NUL */
	char args[PROCESS_ARGS_MAX]; /* `args_length` bytes, a NUL after each argument */
};

/* Set from configuration: arguments may hold secrets. */
const volatile bool process_arguments = false;

struct process_life {
	u64 start_ns;
	u32 tgid;
	u32 unused;
};

/* Ends of processes with several threads: two that end at once may both find that they are the last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct process_life);
	__type(value, u8);
} process_ended SEC(".maps");

static __always_inline void process_fill(struct process_event *event, struct task_struct *task,
					 u16 kind)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	event->head.kind = RECORD_PROCESS_EVENT;
	event->head.flags = 0;
	event->time_ns = bpf_ktime_get_boot_ns();
	event->start_ns = BPF_CORE_READ(leader, start_boottime);
	event->cgroup_id = cgroup_of_task(task);
	event->tgid = BPF_CORE_READ(task, tgid);
	event->ppid = BPF_CORE_READ(leader, real_parent, tgid);
	event->uid = BPF_CORE_READ(task, cred, uid.val);
	event->status = 0;
	event->event = kind;
	event->args_length = 0;
	event->unused = 0;
	BPF_CORE_READ_STR_INTO(&event->comm, leader, comm);
}

static __always_inline void process_send(struct task_struct *task, u16 kind, u32 status)
{
	struct process_event event;

	process_fill(&event, task, kind);
	event.status = status;
	if (!ring_output(&event, sizeof(event)))
		count(COUNT_PROCESS_EVENTS);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	if (child->pid == child->tgid)
		process_send(child, PROCESS_FORK, 0);
	return 0;
}

/* The arguments as they stand on the new program's stack, just written. */
static __always_inline void process_read_args(struct process_exec_event *exec,
					      struct task_struct *task)
{
	u64 start = BPF_CORE_READ(task, mm, arg_start);
	u64 length = BPF_CORE_READ(task, mm, arg_end) - start;

	if (length > PROCESS_ARGS_MAX) {
		length = PROCESS_ARGS_MAX;
		exec->event.head.flags |= PROCESS_ARGS_CUT;
	}
	if (!bpf_probe_read_user(exec->args, length, (void *)start))
		exec->event.args_length = length;
}

static __always_inline void process_on_exec(struct task_struct *task, struct linux_binprm *bprm)
{
	u64 size = process_arguments ? sizeof(struct process_exec_event)
				     : offsetof(struct process_exec_event, args);
	struct process_exec_event *exec = bpf_ringbuf_reserve(&sonde_ring, size, 0);

	if (!exec) {
		count(COUNT_PROCESS_EVENTS);
		return;
	}
	process_fill(&exec->event, task, PROCESS_EXEC);
	if (bpf_probe_read_kernel_str(exec->path, sizeof(exec->path),
				      BPF_CORE_READ(bprm, filename)) == PROCESS_PATH_MAX)
		exec->event.head.flags |= PROCESS_PATH_CUT;
	if (process_arguments)
		process_read_args(exec, task);
	count(COUNT_RECORDS);
	bpf_ringbuf_submit(exec, ring_flags(size));
}

/* As wait() tells it to the parent. */
static __always_inline u32 process_status(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct signal_struct *signal = task->signal;

	return signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : leader->exit_code;
}

/* False: another thread has said so. It may be gone by now: that one thread is left does not mean that it was the only one. */
static __always_inline bool process_claim_end(struct task_struct *task)
{
	struct process_life life = {
		.start_ns = task->group_leader->start_boottime,
		.tgid = task->tgid,
	};
	u8 one = 1;

	if (task->signal->nr_threads <= 1)
		return !bpf_map_lookup_elem(&process_ended, &life);
	return !bpf_map_update_elem(&process_ended, &life, &one, BPF_NOEXIST);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	if (task->signal->live.counter == 0 && process_claim_end(task))
		process_send(task, PROCESS_EXIT, process_status(task));
	return 0;
}

#endif
