/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Pages that processes allocate, if asked for, and processes that the kernel ends because memory ran out. Faults are counted
 * by the kernel itself: bpf/tasks.bpf.h. Decoder: probes/memory/memory.ts.
 */
#ifndef SONDE_MEMORY_H
#define SONDE_MEMORY_H

#include "front.bpf.h"
#include "tasks.bpf.h"

#define MM_FILEPAGES 0
#define MM_ANONPAGES 1
#define MM_SHMEMPAGES 3

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct percpu_counter___memory {
	s64 count;
};

struct mm_struct___memory {
	unsigned long total_vm;
	struct percpu_counter___memory rss_stat[4];
};

/* Before 6.2. */
struct mm_rss_stat___old {
	struct {
		s64 counter;
	} count[4];
};

struct mm_struct___old {
	struct mm_rss_stat___old rss_stat;
};

struct signal_struct___memory {
	short oom_score_adj;
};

struct task_struct___memory {
	struct signal_struct___memory *signal;
};

#pragma clang attribute pop

struct page_allocs {
	struct owner owner; /* tgid 0: of processes that found the map full */
	u64 allocations; /* pages in the lower half, calls in the upper: one addition for both */
	u64 failures;
};

#define ONE_ALLOCATION (1ull << 32)

DEFINE_TURNS(page_allocs, u32, struct page_allocs, 4096)
DEFINE_SHARED_FRONT(page_allocs, u32, struct page_allocs, allocations, 2, 4)
DEFINE_TURNS(page_rest, u32, struct page_allocs, 1)

struct oom_kill {
	struct owner owner;
	u64 at_ns; /* CLOCK_MONOTONIC */
	u64 total_vm; /* pages, as all below */
	u64 anon_rss;
	u64 file_rss;
	u64 shmem_rss;
	s32 oom_score_adj;
	u32 by_tgid;
	char comm[16];
	char by_comm[16];
};

DEFINE_TURNS(oom_kills, u32, struct oom_kill, 256)

/* The current task, kernel threads too. */
static __always_inline void owner_of_any_current(struct owner *owner)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	owner_of_probe(task, cgroup_of_task(task), owner);
}

/* The slot of the CPU; false: the process has none. Interrupts allocate too. */
static __always_inline bool page_at_slot(struct page_allocs_slot *slot, u32 tgid, u64 allocation)
{
	bool hit = false;

	if (slot && tgid && front_enter(&slot->busy)) {
		hit = slot->key == tgid;
		if (hit) {
			slot->sums[0] += allocation;
			slot->sums[1] += !(u32)allocation;
		}
		front_leave(&slot->busy);
	}
	return hit;
}

static __noinline int page_at_entry(u32 tgid, u64 allocation, bool turn)
{
	struct page_allocs_slot *slot = page_allocs_slot_of(turn, tgid);
	struct page_allocs *allocs = page_allocs_find_in(turn, &tgid);
	struct page_allocs fresh;
	u32 nobody = 0;

	if (!allocs) {
		__builtin_memset(&fresh, 0, sizeof(fresh));
		owner_of_any_current(&fresh.owner);
		allocs = page_allocs_make_in(turn, &tgid, &fresh);
	}
	if (!allocs) {
		count(COUNT_TOTALS_FULL);
		__builtin_memset(&fresh.owner, 0, sizeof(fresh.owner));
		slot = NULL;
		allocs = page_rest_find_in(turn, &nobody);
		if (!allocs)
			allocs = page_rest_make_in(turn, &nobody, &fresh);
	}
	if (!allocs)
		return 0; /* cannot be: the rest has its place */
	TURN_ADD(allocs->allocations, allocation);
	if (!(u32)allocation)
		TURN_ADD(allocs->failures, 1);
	if (slot && tgid && front_enter(&slot->busy)) {
		page_allocs_settle(turn, slot, tgid, allocs->allocations >> 32);
		front_leave(&slot->busy);
	}
	return 0;
}

SEC("tp_btf/mm_page_alloc")
int BPF_PROG(page_alloc, void *page, u32 order)
{
	u64 allocation = ONE_ALLOCATION + (page ? 1ull << order : 0);
	u32 turn = turn_now(), tgid = current_tgid();

	if (!page_at_slot(page_allocs_slot_of(turn, tgid), tgid, allocation))
		page_at_entry(tgid, allocation, turn);
	return 0;
}

/* A macro, since only an index that is written out is fitted to the kernel's size of an element. */
#define OOM_PAGES(mm_pointer, which) \
({ \
	struct mm_struct___memory *mm_now = (void *)(mm_pointer); \
	struct mm_struct___old *mm_old = (void *)(mm_pointer); \
	s64 pages = 0; \
	if (bpf_core_field_exists(mm_old->rss_stat.count)) \
		bpf_probe_read_kernel(&pages, sizeof(pages), \
				      (void *)mm_old + \
					      bpf_core_field_offset(mm_old->rss_stat.count) + \
					      (which) * sizeof(pages)); \
	else \
		pages = BPF_CORE_READ(mm_now, rss_stat[which].count); \
	pages > 0 ? pages : 0; \
})

static __always_inline void oom_begin(struct oom_kill *kill)
{
	__builtin_memset(kill, 0, sizeof(*kill));
	kill->at_ns = bpf_ktime_get_ns();
	kill->by_tgid = current_tgid();
	bpf_get_current_comm(kill->by_comm, sizeof(kill->by_comm));
}

static __always_inline void oom_keep(struct oom_kill *kill)
{
	if (!oom_kills_make(&kill->owner.tgid, kill))
		count(COUNT_OOM_FULL);
}

SEC("tp_btf/mark_victim")
int BPF_PROG(oom_victim, struct task_struct *task)
{
	struct task_struct___memory *victim = (void *)task;
	struct mm_struct___memory *mm = (void *)task->mm;
	struct oom_kill kill;

	oom_begin(&kill);
	owner_of_probe(task, cgroup_of_task(task), &kill.owner);
	kill.total_vm = BPF_CORE_READ(mm, total_vm);
	kill.anon_rss = OOM_PAGES(mm, MM_ANONPAGES);
	kill.file_rss = OOM_PAGES(mm, MM_FILEPAGES);
	kill.shmem_rss = OOM_PAGES(mm, MM_SHMEMPAGES);
	kill.oom_score_adj = BPF_CORE_READ(victim, signal, oom_score_adj);
	BPF_CORE_READ_STR_INTO(&kill.comm, task, comm);
	oom_keep(&kill);
	return 0;
}

/* Where the kernel tells the number of the victim and no more. */
SEC("tp_btf/mark_victim")
int BPF_PROG(oom_victim_pid, int pid)
{
	struct oom_kill kill;

	oom_begin(&kill);
	kill.owner.tgid = pid;
	oom_keep(&kill);
	return 0;
}

#endif
