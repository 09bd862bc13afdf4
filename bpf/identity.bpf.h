/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Who: the process behind a socket. A process is announced once (RECORD_PROCESS) when it first owns something, with
 * the path of its executable walked from its dentry, so that a process gone before the next drain has its name.
 * Reader: src/collector/identity.ts.
 */
#ifndef SONDE_IDENTITY_H
#define SONDE_IDENTITY_H

#include "ring.bpf.h"

#define READ_DIRECT(from, path) ((from)->path)
#define READ_PROBE(from, path) BPF_CORE_READ(from, path)

#define PATH_PARTS 14
#define PATH_PART 40
#define MOUNT_HOPS 3 /* file systems mounted right upon each other's root */

/* The owner of a socket, as each flow record carries it. */
struct owner {
	u64 start_ns; /* CLOCK_BOOTTIME of the process's start: tells a reused pid apart */
	u64 cgroup_id; /* cgroup v2 id of the task when it last did I/O */
	u32 tgid; /* 0: unknown */
	u32 uid;
};

struct path_part {
	char text[PATH_PART]; /* ends with NUL, cut to 39 bytes */
};

struct process_record {
	struct record_head head; /* flags: 1 = the path, or a part of it, may be longer */
	u64 start_ns;
	u64 cgroup_id;
	u32 tgid;
	u32 ppid;
	u32 uid;
	u32 parts; /* path components in `path`, the last one (the file's name) first */
	char comm[16];
	struct path_part path[PATH_PARTS];
};

/* What a restarted collector reads of processes announced to its predecessor. */
struct process {
	u64 start_ns;
	u64 exe; /* address of the executable's dentry: another one means that the process called exec */
	u64 cgroup_id;
	u32 ppid;
	u32 uid;
	char comm[16];
	char name[PATH_PART]; /* base name of the executable */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, struct process);
} sonde_procs SEC(".maps");

static __always_inline struct dentry *task_exe_dentry(struct task_struct *task)
{
	return BPF_CORE_READ(task, mm, exe_file, f_path.dentry);
}

/* Crosses from the root of a mounted file system to where it is mounted; false: this is the top. */
static __always_inline bool cross_mounts(struct dentry **dentry, struct mount **mount)
{
	for (int hop = 0; hop < MOUNT_HOPS; hop++) {
		struct mount *above;

		if (*dentry != BPF_CORE_READ(*mount, mnt.mnt_root))
			return true;
		above = BPF_CORE_READ(*mount, mnt_parent);
		if (above == *mount)
			return false;
		*dentry = BPF_CORE_READ(*mount, mnt_mountpoint);
		*mount = above;
	}
	return false;
}

/* Walks from the executable up to the root of its mount namespace, one component a round. */
static __always_inline u32 read_exe_path(struct task_struct *task, struct process_record *out)
{
	struct dentry *dentry = task_exe_dentry(task);
	struct vfsmount *vfs = BPF_CORE_READ(task, mm, exe_file, f_path.mnt);
	struct mount *mount = (void *)vfs - bpf_core_field_offset(struct mount, mnt);
	u32 parts;

	for (parts = 0; parts < PATH_PARTS; parts++) {
		struct dentry *parent;

		if (!cross_mounts(&dentry, &mount))
			return parts;
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry)
			return parts;
		if (bpf_probe_read_kernel_str(out->path[parts].text, PATH_PART,
					      BPF_CORE_READ(dentry, d_name.name)) == PATH_PART)
			out->head.flags = 1;
		dentry = parent;
	}
	out->head.flags = 1;
	return parts;
}

/*
 * Remembers a process and sends its record. A global function: the verifier proves it once, not in each program that calls
 * it; its arguments are therefore numbers: the address of a task, or CURRENT_LEADER.
 */
#define CURRENT_LEADER 0

__noinline int announce_process(u64 leader_address, u64 cgroup_id)
{
	struct task_struct *leader = (struct task_struct *)leader_address;
	struct process known = { .cgroup_id = cgroup_id };
	struct process_record *record;
	struct dentry *exe;
	u32 tgid;

	if (leader_address == CURRENT_LEADER) {
		leader = (struct task_struct *)bpf_get_current_task();
		leader = BPF_CORE_READ(leader, group_leader);
	}
	tgid = BPF_CORE_READ(leader, tgid);
	exe = task_exe_dentry(leader);
	known.start_ns = BPF_CORE_READ(leader, start_boottime);
	known.uid = BPF_CORE_READ(leader, cred, uid.val);
	known.exe = (u64)exe;
	known.ppid = BPF_CORE_READ(leader, real_parent, tgid);
	BPF_CORE_READ_STR_INTO(&known.comm, leader, comm);
	if (exe)
		bpf_probe_read_kernel_str(known.name, PATH_PART,
					  BPF_CORE_READ(exe, d_name.name));
	bpf_map_update_elem(&sonde_procs, &tgid, &known, BPF_ANY);
	record = bpf_ringbuf_reserve(&sonde_ring, sizeof(*record), 0);
	if (!record) {
		count(COUNT_PROC_FULL);
		return 0;
	}
	record->head.kind = RECORD_PROCESS;
	record->head.flags = 0;
	record->start_ns = known.start_ns;
	record->cgroup_id = known.cgroup_id;
	record->tgid = tgid;
	record->ppid = known.ppid;
	record->uid = known.uid;
	__builtin_memcpy(record->comm, known.comm, sizeof(record->comm));
	record->parts = exe ? read_exe_path(leader, record) : 0;
	count(COUNT_RECORDS);
	bpf_ringbuf_submit(record, ring_flags(sizeof(*record)));
	return 0;
}

/* A program began: it may run files in which uprobes are to be placed. Reader: src/collector/uprobes.ts. */
struct exec_record {
	struct record_head head;
	u32 tgid;
	u32 unused;
};

static __always_inline void announce_exec(u32 tgid)
{
	struct exec_record record = { .head.kind = RECORD_EXEC, .tgid = tgid };

	if (!ring_output(&record, sizeof(record)))
		count(COUNT_EXEC_FULL);
}

/*
 * Fills `owner` from `task` and announces its process when it is new or has called exec. In two ways, as in sock.bpf.h: with
 * plain loads where the verifier knows the task, else with bpf_probe_read_kernel, some 8 ns a field.
 */
#define DEFINE_OWNER(way, READ, ADDRESS) \
static __always_inline void owner_of_##way(struct task_struct *task, u64 cgroup_id, \
					   struct owner *owner) \
{ \
	struct task_struct *leader = READ(task, group_leader); \
	struct mm_struct *mm = READ(leader, mm); \
	struct file *file = READ(mm, exe_file); \
	u64 exe = (u64)READ(file, f_path.dentry); \
	const struct cred *cred = READ(leader, cred); \
	struct process *known; \
	u32 tgid; \
	owner->tgid = READ(leader, tgid); \
	owner->start_ns = READ(leader, start_boottime); \
	owner->uid = READ(cred, uid.val); \
	owner->cgroup_id = cgroup_id; \
	tgid = owner->tgid; /* a key may not lie in the ring before 6.2 */ \
	known = bpf_map_lookup_elem(&sonde_procs, &tgid); \
	if (!known || known->start_ns != owner->start_ns || (exe && known->exe != exe)) \
		announce_process(ADDRESS, cgroup_id); /* exe 0: it exits, and has its name already */ \
}

DEFINE_OWNER(direct, READ_DIRECT, CURRENT_LEADER)
DEFINE_OWNER(probe, READ_PROBE, (u64)leader)

/* The task's cgroup v2 id where no helper tells it. */
static __always_inline u64 cgroup_of_task(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

/* For programs that are not offered the helpers (cgroup_skb before 6.10): the task is read. */
static __always_inline bool owner_of_current_task(struct owner *owner)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return false;
	owner_of_probe(task, cgroup_of_task(task), owner);
	return true;
}

/* The current process becomes the owner; kernel threads (deferred closes, io workers) do not. */
static __always_inline bool owner_of_current(struct owner *owner)
{
	struct task_struct *task;

	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf))
		return owner_of_current_task(owner); /* before 5.11 */
	task = bpf_get_current_task_btf();
	if (task->flags & PF_KTHREAD)
		return false;
	owner_of_direct(task, bpf_get_current_cgroup_id(), owner);
	return true;
}

static __always_inline u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

/* The same by reading the task. */
static __always_inline u32 current_task_tgid(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return BPF_CORE_READ(task, tgid);
}

static __always_inline u32 current_netns(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
}

#endif
