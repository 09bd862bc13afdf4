// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The one object that the collector loads: every probe's kernel part, and the hooks that several of them share. A shared
 * hook is one program, because each program on a hook costs every call its entry (20 ns), whether it is interested or not.
 */
#include "../probes/tcp/tcp.bpf.h"
#include "../probes/udp/udp.bpf.h"
#include "../probes/block_io/block_io.bpf.h"
#include "../probes/fileio/fileio.bpf.h"
#include "../probes/memory/memory.bpf.h"
#include "../probes/scheduler/scheduler.bpf.h"
#include "../probes/syscalls/syscalls.bpf.h"

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define FMODE_PATH 0x4000

/* Set from configuration; the verifier removes the code of a probe that is off. */
const volatile bool tcp_enabled = true;
const volatile bool udp_enabled = true;
const volatile bool syscalls_enabled = true;
const volatile bool fileio_enabled = true;
const volatile bool block_io_enabled = true;

/* Never read: it makes the compiler describe these types, from which the TypeScript layouts are generated. */
const volatile struct {
	struct flow_record flow;
	struct process_record process_record;
	struct process process;
	struct overflow overflow;
	struct histogram histogram;
	struct task_totals task_totals;
	struct sched_waits sched_waits;
	struct page_allocs page_allocs;
	struct file_key file_key;
	struct file_sums file_sums;
	enum file_kind file_kind;
	enum file_operation file_operation;
	struct block_key block_key;
	struct block_sums block_sums;
	struct oom_kill oom_kill;
	struct syscall_key syscall_key;
	struct syscall_sums syscall_sums;
	struct syscall_times syscall_times;
	struct syscall_rest syscall_rest;
	enum flow_flag flow_flag;
	enum flow_role flow_role;
	enum record_kind record_kind;
	enum kernel_count kernel_count;
} layouts = {};

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_recv, struct sock *sk, int length, int flags)
{
	u16 protocol = sk->sk_protocol;

	if (tcp_enabled && protocol == IPPROTO_TCP)
		tcp_on_call(sk);
	else if (udp_enabled && protocol == IPPROTO_UDP)
		udp_on_recv(sk, length, flags);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send, struct sock *sk, int length, int flags)
{
	u16 protocol = sk->sk_protocol;

	if (tcp_enabled && protocol == IPPROTO_TCP)
		tcp_on_call(sk);
	else if (udp_enabled && protocol == IPPROTO_UDP)
		udp_on_call(sk, length, ROLE_OUTGOING);
	return 0;
}

/* A process that owns sockets called exec: announce it again, under its new name. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec)
{
	u32 tgid = current_tgid();
	struct owner owner;

	if (bpf_map_lookup_elem(&sonde_procs, &tgid))
		owner_of_current(&owner);
	return 0;
}

/* Sends the totals of records that found no room, once there is room again. */
SEC("iter/bpf_map_elem")
int overflow_sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	u32 *slot_now = ctx->key;
	u32 slot;

	if (!slot_now || ring_nearly_full())
		return 0;
	slot = *slot_now;
	overflow_report(slot);
	return 0;
}

/* The sweep of open files at start. Listening sockets are learned in a first pass, connections in a second. */
SEC("iter/task_file")
int files_sweep(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	struct sock *sk;

	if (!task || !file || task->pid != task->tgid)
		return 0;
	/* bpf_sock_from_file is missing before 5.11; an open file of a socket inode keeps its socket here */
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	if (BPF_CORE_READ(file, f_mode) & FMODE_PATH)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	if (tcp_enabled && sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
		tcp_found(sk, task);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs___syscall *regs, long result)
{
	bool timed = (syscalls_enabled && syscalls_timed) || (fileio_enabled && fileio_timed);
	u64 took_ns = timed ? syscall_took() : 0;
	u32 nr = syscall_nr(regs) | syscall_compat();

	if (syscalls_enabled && syscalls_timed)
		syscalls_on_exit_timed(nr, result, took_ns);
	else if (syscalls_enabled)
		syscalls_on_exit_plain(nr, result);
	if (fileio_enabled)
		fileio_on_exit(nr, regs, result, fileio_timed ? took_ns : 0);
	return 0;
}

/* Before 5.11, where there is no storage of a task. */
SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit_510, struct pt_regs___syscall *regs, long result)
{
	u32 nr = syscall_nr(regs) | syscall_compat();

	if (syscalls_enabled)
		syscalls_on_exit_plain(nr, result);
	if (fileio_enabled)
		fileio_on_exit(nr, regs, result, 0);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs___syscall *regs, long nr)
{
	struct file_call call;

	if ((syscalls_enabled && syscalls_timed) || file_call_of(nr, &call))
		syscall_begin();
	return 0;
}
