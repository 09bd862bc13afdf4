/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Each line that an interactive bash reads: what its function `readline` returns. The collector places these programs on
 * every bash that runs (probes/bash/bash.ts), and on the readline library for those bashes that use the shared one.
 */
#ifndef SONDE_BASH_H
#define SONDE_BASH_H

#include "../../bpf/identity.bpf.h"

#define BASH_LINE 4096
#define BASH_SHORT_LINE 256
#define BASH_TTY 16

enum bash_flag {
	BASH_TRUNCATED = 1, /* the line is longer */
};

struct bash_head {
	struct record_head head; /* flags: enum bash_flag */
	struct owner owner;
	u64 at_ns; /* CLOCK_MONOTONIC */
	u64 root_ino; /* of the root directory, below which the names of users are */
	u32 root_dev; /* its file system, as the kernel writes it */
	u32 length; /* bytes in `line`, without the NUL */
	char tty[BASH_TTY];
};

struct bash_record {
	struct bash_head bash;
	char line[BASH_LINE];
};

/* Nearly every line. The ring takes the size of the struct, so a line costs what it needs within a factor. */
struct bash_short {
	struct bash_head bash;
	char line[BASH_SHORT_LINE];
};

static __always_inline void bash_head_fill(struct bash_head *bash, u32 length, u32 flags)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct owner owner = {}; /* on the stack: before 6.2 no key of a look-up may be in the ring's memory */
	struct inode *root;

	bash->head.kind = RECORD_BASH;
	bash->head.flags = flags;
	bash->length = length;
	bash->at_ns = bpf_ktime_get_ns();
	root = BPF_CORE_READ(task, fs, root.dentry, d_inode);
	bash->root_ino = BPF_CORE_READ(root, i_ino);
	bash->root_dev = BPF_CORE_READ(root, i_sb, s_dev);
	__builtin_memset(bash->tty, 0, sizeof(bash->tty));
	bpf_probe_read_kernel_str(bash->tty, sizeof(bash->tty),
				  &BPF_CORE_READ(task, signal, tty)->name);
	owner_of_current_task(&owner);
	bash->owner = owner;
}

/* What of a line did not fit: its last byte but one is no end. */
static __always_inline bool bash_is_cut(const char *text, long size, u32 room)
{
	char next = 0;

	if (size != room)
		return false;
	bpf_probe_read_user(&next, sizeof(next), text + room - 1);
	return next;
}

/* Takes the line into a record of this type; false: it is longer than that. */
#define BASH_TAKE(type, text) \
({ \
	struct type *record = bpf_ringbuf_reserve(&sonde_ring, sizeof(*record), 0); \
	bool fits = true; \
	if (!record) { \
		count(COUNT_BASH_FULL); \
	} else { \
		const u32 room = sizeof(record->line); \
		long size = bpf_probe_read_user_str(record->line, room, text); \
		bool cut = bash_is_cut(text, size, room); \
		if (size < 0) \
			count(COUNT_BASH_UNREAD); \
		fits = !cut || room == BASH_LINE; \
		if (size <= 1 || !fits) { \
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP); \
		} else { \
			bash_head_fill(&record->bash, size - 1, cut ? BASH_TRUNCATED : 0); \
			count(COUNT_RECORDS); \
			bpf_ringbuf_submit(record, ring_flags(sizeof(*record))); \
		} \
	} \
	fits; \
})

static __always_inline int bash_took(const char *text)
{
	if (text && !BASH_TAKE(bash_short, text))
		BASH_TAKE(bash_record, text);
	return 0;
}

SEC("uretprobe")
int bash_line(struct pt_regs *ctx)
{
	return bash_took((const char *)PT_REGS_RC(ctx));
}

/* In the shared library, which others use as well. */
SEC("uretprobe")
int bash_lib_line(struct pt_regs *ctx)
{
	char comm[16] = {};

	bpf_get_current_comm(comm, sizeof(comm));
	if (comm[0] != 'b' || comm[1] != 'a' || comm[2] != 's' || comm[3] != 'h' || comm[4])
		return 0;
	return bash_took((const char *)PT_REGS_RC(ctx));
}

#endif
