/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How long a task waited for a processor, each time that it got one, by cause. One hook: the kernel keeps in the task since
 * when it has been runnable (sched_info.last_queued) and how long it waited in all its life (run_delay), and adds the one to the
 * other just after this hook. The wait that ends here is the growth of that total since the task last got a processor, so that
 * it is whole also if the task was moved between processors meanwhile, and all waits add up to what /proc/<pid>/schedstat
 * says. A task that was switched out against its will since then was preempted; else it was woken.
 */
#ifndef SONDE_SCHEDULER_H
#define SONDE_SCHEDULER_H

#include "front.bpf.h"
#include "histogram.bpf.h"
#include "tasks.bpf.h"

struct sched_waits {
	struct owner owner;
	struct histogram woken;
	struct histogram preempted;
};

#define SCHED_WORDS (2 * sizeof(struct histogram) / sizeof(u64))

DEFINE_TURNS(sched_waits, u32, struct sched_waits, 2048)
DEFINE_FRONT(sched_waits, u32, struct sched_waits, woken, SCHED_WORDS, 4)
DEFINE_TURNS(sched_rest, u32, struct sched_waits, 1)

/* Too large for the stack of a program; of one key, so that no two programs fill it differently. */
const struct sched_waits no_waits = {};

/* `tgid` becomes 0 where the process finds no room. */
static __always_inline struct sched_waits *sched_waits_of(bool turn, struct task_struct *task,
							  u32 *tgid)
{
	struct sched_waits *waits = sched_waits_find_in(turn, tgid);

	if (waits)
		return waits;
	waits = sched_waits_make_in(turn, tgid, (struct sched_waits *)&no_waits);
	if (waits) {
		waits->owner.tgid = *tgid;
		waits->owner.start_ns = task->group_leader->start_boottime;
		waits->owner.cgroup_id = cgroup_of_task(task);
		return waits;
	}
	count(COUNT_TOTALS_FULL);
	*tgid = 0;
	waits = sched_rest_find_in(turn, tgid);
	return waits ? waits : sched_rest_make_in(turn, tgid, (struct sched_waits *)&no_waits);
}

/* One hook with interrupts off: nothing comes between. */
static __always_inline void sched_count(struct task_struct *task, bool preempted, u64 wait)
{
	u32 turn = turn_now(), tgid = task->tgid;
	struct sched_waits_slot *slot = sched_waits_slot_of(turn, tgid);
	struct sched_waits *waits;
	struct histogram *both;

	if (slot && slot->key == tgid) {
		both = (struct histogram *)slot->sums;
		histogram_add_alone(&both[preempted], wait);
		return;
	}
	waits = sched_waits_of(turn, task, &tgid);
	if (!waits)
		return;
	histogram_add(preempted ? &waits->preempted : &waits->woken, wait);
	if (slot && tgid) /* the low bits of a time are as good as a count of events */
		sched_waits_settle(turn, slot, tgid, wait);
}

/* When a task that waits now gets its processor: all that it waited in its life. */
static __always_inline u64 waited_ns(struct task_struct___tasks *task)
{
	u64 now = task->se.cfs_rq->rq->clock;
	u64 queued = task->sched_info.last_queued;

	return task->sched_info.run_delay + (now > queued ? now - queued : 0);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switched, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct task_struct___tasks *task = (void *)next;
	struct task_seen *seen;
	u64 total, wait;
	bool preempted;

	if (!next->pid || !task->sched_info.last_queued)
		return 0;
	seen = bpf_task_storage_get(&task_seen, next, 0, 0);
	if (!seen)
		return 0; /* of a task that began while sonde started: from the next sweep on */
	total = waited_ns(task);
	wait = total > seen->wait_ns ? total - seen->wait_ns : 0;
	preempted = task->nivcsw != seen->involuntary;
	seen->wait_ns = total;
	seen->involuntary = task->nivcsw;
	sched_count(next, preempted, wait);
	return 0;
}

/* In the parent, where a task's storage may be made; on a switch it must not be. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(sched_forked, struct task_struct *parent, struct task_struct *child)
{
	if (!bpf_task_storage_get(&task_seen, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE))
		count(COUNT_TASK_FULL);
	return 0;
}

#endif
