/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a system call is where it enters and returns: its number, its first arguments, its time. One pair of programs on these
 * hooks serves all probes that look at calls (sonde.bpf.c), since each program costs every call of every process its entry.
 */
#ifndef SONDE_SYSCALL_H
#define SONDE_SYSCALL_H

#include "kernel.bpf.h"

#define SYSCALL_COMPAT 0x8000 /* of a 32-bit program on x86-64: another table of numbers */
#define SYSCALL_SIGRETURN 0x7fff /* rt_sigreturn restores the registers: it returns under no number */
#define TS_COMPAT 0x0002

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct pt_regs___syscall {
	unsigned long orig_ax; /* x86: the number */
	unsigned long di; /* the arguments */
	unsigned long si;
	unsigned long dx;
	s32 syscallno; /* arm64 */
	u64 orig_x0; /* the first argument: its register holds the result */
	u64 regs[31];
};

struct thread_info___syscall {
	u32 status;
};

struct task_struct___syscall {
	struct thread_info___syscall thread_info;
};

#pragma clang attribute pop

/* When the call that a thread is in began, 0: in none that was seen to begin. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, u64);
} syscall_begun SEC(".maps");

static __always_inline void syscall_begin(void)
{
	u64 *begun = bpf_task_storage_get(&syscall_begun, bpf_get_current_task_btf(), 0,
					  BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (begun)
		*begun = bpf_ktime_get_ns();
}

static __always_inline u64 syscall_took(void)
{
	u64 *begun = bpf_task_storage_get(&syscall_begun, bpf_get_current_task_btf(), 0, 0);
	u64 from;

	if (!begun || !*begun)
		return 0;
	from = *begun;
	*begun = 0;
	return bpf_ktime_get_ns() - from;
}

/* 16 bits: the number, marks as above; what is no number of a call becomes the last one. */
static __always_inline u32 syscall_nr(struct pt_regs___syscall *regs)
{
	s32 nr;

#if defined(__TARGET_ARCH_x86)
	nr = regs->orig_ax;
#else
	nr = regs->syscallno;
#endif
	if (nr < 0)
		return SYSCALL_SIGRETURN;
	return nr < SYSCALL_SIGRETURN ? nr : SYSCALL_SIGRETURN - 1;
}

/* Who calls. */
struct caller {
	struct task_struct *task;
	u32 tgid;
	u32 compat; /* SYSCALL_COMPAT or 0 */
};

static __always_inline bool current_is_known(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf);
}

static __always_inline u32 caller_compat(struct task_struct *current)
{
#if defined(__TARGET_ARCH_x86)
	struct task_struct___syscall *task = (void *)current;
	u32 status = current_is_known() ? task->thread_info.status :
					  BPF_CORE_READ(task, thread_info.status);

	return status & TS_COMPAT ? SYSCALL_COMPAT : 0;
#endif
	return 0;
}

/* One call of a helper, of some 8 ns, where there is the newer one. */
static __always_inline void caller_now(struct caller *caller)
{
	if (current_is_known()) {
		caller->task = bpf_get_current_task_btf();
		caller->tgid = caller->task->tgid;
	} else {
		caller->task = (struct task_struct *)bpf_get_current_task();
		caller->tgid = bpf_get_current_pid_tgid() >> 32;
	}
	caller->compat = caller_compat(caller->task);
}

/* The first, second or third argument: 0, 1, 2. */
static __always_inline u64 syscall_argument(struct pt_regs___syscall *regs, u32 which)
{
#if defined(__TARGET_ARCH_x86)
	return which == 0 ? regs->di : which == 1 ? regs->si : regs->dx;
#else
	return which == 0 ? regs->orig_x0 : which == 1 ? regs->regs[1] : regs->regs[2];
#endif
}

#endif
