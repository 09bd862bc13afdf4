/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What tasks spend, by the kernel's own counters: processor time, waits for it, switches, migrations, page faults. Nothing is
 * hooked while a task runs: the counters of live tasks are read each interval (iter/task), those of a task that ends when it
 * ends. What was reported of a task stands with it (`task_seen`), so that each claim takes just the rest, and the sum of all
 * claims is the kernel's own total. The probes scheduler and memory share this. Decoder: probes/task_totals.ts.
 */
#ifndef SONDE_TASKS_H
#define SONDE_TASKS_H

#include "flow.bpf.h"
#include "identity.bpf.h"
#include "turns.bpf.h"

/* Set from configuration. */
const volatile bool scheduler_enabled = true;
const volatile bool memory_enabled = true;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rq___tasks {
	u64 clock;
};

struct cfs_rq___tasks {
	struct rq___tasks *rq;
};

struct sched_info___tasks {
	unsigned long pcount;
	u64 run_delay;
	u64 last_queued;
};

struct sched_entity___tasks {
	u64 sum_exec_runtime;
	u64 nr_migrations;
	struct cfs_rq___tasks *cfs_rq;
};

struct task_struct___tasks {
	struct sched_entity___tasks se;
	struct sched_info___tasks sched_info;
	unsigned long nvcsw;
	unsigned long nivcsw;
	unsigned long min_flt;
	unsigned long maj_flt;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

struct task_counts {
	u64 cpu_ns;
	u64 wait_ns; /* from runnable to running */
	u64 runs;
	u64 voluntary;
	u64 involuntary;
	u64 migrations;
	u64 faults_minor;
	u64 faults_major;
};

/* What was reported of a task. */
struct task_seen {
	struct owner owner; /* of the last claim: at its very end a task has no leader to ask */
	struct task_counts counts;
	u64 wait_ns; /* as of when it last got a processor (scheduler.bpf.h) */
	u64 involuntary; /* the same */
	u64 busy; /* 1 while a program claims: another one leaves it to the next claim */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_seen);
} task_seen SEC(".maps");

/* Of a process in one interval; all its threads. */
struct task_totals {
	struct owner owner; /* tgid 0: of processes that found the map full */
	struct task_counts counts;
};

DEFINE_TURNS(task_totals, u32, struct task_totals, 4096)
DEFINE_TURNS(task_rest, u32, struct task_totals, 1)

static __always_inline void task_read(struct task_struct *any, struct task_counts *now)
{
	struct task_struct___tasks *task = (void *)any;

	if (scheduler_enabled) {
		now->cpu_ns = task->se.sum_exec_runtime;
		now->wait_ns = task->sched_info.run_delay;
		now->runs = task->sched_info.pcount;
		now->voluntary = task->nvcsw;
		now->involuntary = task->nivcsw;
		now->migrations = task->se.nr_migrations;
	}
	if (memory_enabled) {
		now->faults_minor = task->min_flt;
		now->faults_major = task->maj_flt;
	}
}

/* Counters only grow; what is less was read earlier, and claimed by whoever read later. */
static __always_inline u64 task_take(u64 *seen, u64 now)
{
	u64 before = *seen;

	if (now <= before)
		return 0;
	*seen = now;
	return now - before;
}

/* Turns `now` into what nobody has claimed; false: there is nothing. */
static __always_inline bool task_rest_of(struct task_counts *seen, struct task_counts *now)
{
	now->cpu_ns = task_take(&seen->cpu_ns, now->cpu_ns);
	now->wait_ns = task_take(&seen->wait_ns, now->wait_ns);
	now->runs = task_take(&seen->runs, now->runs);
	now->voluntary = task_take(&seen->voluntary, now->voluntary);
	now->involuntary = task_take(&seen->involuntary, now->involuntary);
	now->migrations = task_take(&seen->migrations, now->migrations);
	now->faults_minor = task_take(&seen->faults_minor, now->faults_minor);
	now->faults_major = task_take(&seen->faults_major, now->faults_major);
	return now->cpu_ns || now->wait_ns || now->runs || now->voluntary || now->involuntary ||
	       now->migrations || now->faults_minor || now->faults_major;
}

static __always_inline struct task_totals *task_totals_of(struct owner *owner)
{
	struct task_totals *totals = task_totals_find(&owner->tgid);
	struct task_totals fresh;
	u32 nobody = 0;

	if (totals)
		return totals;
	__builtin_memset(&fresh, 0, sizeof(fresh));
	fresh.owner = *owner;
	totals = task_totals_make(&owner->tgid, &fresh);
	if (totals)
		return totals;
	count(COUNT_TOTALS_FULL);
	__builtin_memset(&fresh.owner, 0, sizeof(fresh.owner));
	totals = task_rest_find(&nobody);
	return totals ? totals : task_rest_make(&nobody, &fresh);
}

static __always_inline void task_add(struct owner *owner, struct task_counts *part)
{
	struct task_totals *totals = task_totals_of(owner);

	if (!totals)
		return; /* cannot be: the rest has its place */
	if (scheduler_enabled) {
		TURN_ADD(totals->counts.cpu_ns, part->cpu_ns);
		TURN_ADD(totals->counts.wait_ns, part->wait_ns);
		TURN_ADD(totals->counts.runs, part->runs);
		TURN_ADD(totals->counts.voluntary, part->voluntary);
		TURN_ADD(totals->counts.involuntary, part->involuntary);
		TURN_ADD(totals->counts.migrations, part->migrations);
	}
	if (memory_enabled) {
		TURN_ADD(totals->counts.faults_minor, part->faults_minor);
		TURN_ADD(totals->counts.faults_major, part->faults_major);
	}
}

enum task_end {
	TASK_LIVES,
	TASK_EXITS, /* it still has its last switch before it */
	TASK_GONE, /* its leader may be gone too: the owner is the one of its last claim */
};

static __always_inline void task_claim(struct task_struct *task, struct task_seen *seen,
				       enum task_end end)
{
	struct task_counts part = {};
	struct owner owner;

	if (__sync_val_compare_and_swap(&seen->busy, 0, 1) != 0)
		return;
	task_read(task, &part);
	if (end == TASK_EXITS && scheduler_enabled)
		part.voluntary += 1;
	if (task_rest_of(&seen->counts, &part)) {
		if (end != TASK_GONE)
			owner_of_probe(task, cgroup_of_task(task), &seen->owner);
		owner = seen->owner;
		task_add(&owner, &part);
	}
	__sync_val_compare_and_swap(&seen->busy, 1, 0);
}

/* A task that was there before sonde: what it spent until now is not ours. */
static __always_inline void task_begin(struct task_struct *any, struct task_seen *seen)
{
	struct task_struct___tasks *task = (void *)any;

	task_read(any, &seen->counts);
	seen->wait_ns = task->sched_info.run_delay;
	seen->involuntary = task->nivcsw;
}

/* Every live task, at start and each interval. */
SEC("iter/task")
int tasks_sweep(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_seen *seen;

	if (!task)
		return 0;
	seen = bpf_task_storage_get(&task_seen, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!seen) {
		count(COUNT_TASK_FULL);
		return 0;
	}
	if (files_swept())
		task_claim(task, seen, TASK_LIVES);
	else
		task_begin(task, seen);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(task_exit, struct task_struct *task)
{
	struct task_seen *seen;

	if (!files_swept())
		return 0;
	seen = bpf_task_storage_get(&task_seen, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (seen)
		task_claim(task, seen, TASK_EXITS);
	else
		count(COUNT_TASK_FULL);
	return 0;
}

/* What a task spent in its exit. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(task_free, struct task_struct *task)
{
	struct task_seen *seen = bpf_task_storage_get(&task_seen, task, 0, 0);

	if (seen && seen->owner.tgid)
		task_claim(task, seen, TASK_GONE);
	return 0;
}

#endif
