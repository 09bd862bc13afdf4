// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The one object that the collector loads: every probe's kernel part, and the hooks that several of them share. A shared
 * hook is one program, because each program on a hook costs every call its entry (20 ns), whether it is interested or not.
 */
#include "../probes/capture/capture.bpf.h"
#include "../probes/cgroup/cgroup.bpf.h"
#include "../probes/db/db.bpf.h"
#include "../probes/dns/dns.bpf.h"
#include "../probes/http/http.bpf.h"
#include "../probes/http2/http2.bpf.h"
#include "../probes/http2/upgrade.bpf.h"
#include "../probes/nat/packet.bpf.h"
#include "../probes/network/network.bpf.h"
#include "../probes/process/process.bpf.h"
#include "../probes/tcp/tcp.bpf.h"
#include "../probes/udp/packets.bpf.h"
#include "../probes/bash/bash.bpf.h"
#include "../probes/tls/tls.bpf.h"
#include "../probes/block_io/block_io.bpf.h"
#include "../probes/fileio/fileio.bpf.h"
#include "../probes/memory/memory.bpf.h"
#include "../probes/scheduler/scheduler.bpf.h"
#include "../probes/syscalls/syscalls.bpf.h"

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define FMODE_PATH 0x4000

/* Set from configuration; the verifier removes the code of a probe that is off. */
const volatile bool capture_enabled = false;
const volatile bool cgroup_enabled = false;
const volatile bool dns_enabled = false;
const volatile bool http_enabled = false;
const volatile bool http2_enabled = false;
const volatile bool network_enabled = false;
const volatile bool process_enabled = false;
const volatile bool tcp_enabled = true;
const volatile bool tcpstate_enabled = false;
const volatile bool udp_enabled = true;
const volatile bool bash_enabled = true;
const volatile bool tls_enabled = false;
/* Some source that is on places uprobes: the collector wants to know of new programs. */
const volatile bool exec_announced = true;
const volatile bool syscalls_enabled = true;
const volatile bool fileio_enabled = true;
const volatile bool block_io_enabled = true;

/* Never read: it makes the compiler describe these types, from which the TypeScript layouts are generated. */
const volatile struct {
	struct flow_record flow;
	struct dns_record dns;
	struct db_record db;
	struct process_record process_record;
	struct process process;
	struct overflow overflow;
	struct bash_record bash_record;
	struct exec_record exec_record;
	struct cgroup_traffic cgroup_traffic;
	struct cgroup_traffic_slot cgroup_traffic_slot;
	struct cgroup_name cgroup_name;
	enum cgroup_slot cgroup_slot;
	struct conn conn;
	struct process_event process_event;
	struct process_exec_event process_exec_event;
	enum process_event_kind process_event_kind;
	enum process_event_flag process_event_flag;
	struct drop_key drop_key;
	struct drop_sums drop_sums;
	struct net_drops_slot net_drops_slot;
	struct tcpstate_key tcpstate_key;
	struct tcpstate_change tcpstate_change;
	struct tcpstate_slot tcpstate_slot;
	struct block_io_slot block_io_slot;
	struct histogram histogram;
	struct task_totals task_totals;
	struct sched_waits sched_waits;
	struct sched_waits_slot sched_waits_slot;
	struct page_allocs page_allocs;
	struct page_allocs_slot page_allocs_slot;
	struct file_key file_key;
	struct file_sums file_sums;
	struct file_io_slot file_io_slot;
	enum file_kind file_kind;
	enum file_operation file_operation;
	struct block_key block_key;
	struct block_sums block_sums;
	struct oom_kill oom_kill;
	struct syscall_key syscall_key;
	struct syscall_sums syscall_sums;
	struct syscalls_slot syscalls_slot;
	struct syscall_times syscall_times;
	struct syscall_rest syscall_rest;
	struct http_record http_record;
	struct http_conn http_conn;
	enum http_life http_life;
	struct http_rest_record http_rest_record;
	struct http_total http_total;
	enum http_flag http_flag;
	struct http2_record http2_record;
	enum http2_flag http2_flag;
	enum flow_flag flow_flag;
	enum flow_error flow_error;
	enum bash_flag bash_flag;
	enum flow_role flow_role;
	enum dns_flag dns_flag;
	enum db_flag db_flag;
	enum record_kind record_kind;
	enum kernel_count kernel_count;
	enum level_source level_source;
	struct capture_record capture_record;
	struct capture_chunk capture_chunk;
	enum capture_mode capture_mode;
	enum capture_flag capture_flag;
	enum capture_side capture_side;
	enum capture_count capture_count;
} layouts = {};

char _license[] SEC("license") = "Dual BSD/GPL";

static __noinline int udp_received(struct sock *sk, int length, int flags)
{
	udp_on_recv(sk, length, flags);
	return 0;
}

static __noinline int udp_sent(struct sock *sk, int length)
{
	udp_on_call(sk, length, ROLE_OUTGOING);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_recv, struct sock *sk, int length, int flags)
{
	u16 protocol = sk->sk_protocol;

	if (tls_enabled && protocol == IPPROTO_TCP)
		tls_on_io(sk, true);
	if (tcp_enabled && protocol == IPPROTO_TCP)
		tcp_on_call(sk, length, flags, CALL_READ);
	else if (udp_enabled && protocol == IPPROTO_UDP)
		udp_received(sk, length, flags);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send, struct sock *sk, int length, int flags)
{
	u16 protocol = sk->sk_protocol;

	if (tls_enabled && protocol == IPPROTO_TCP)
		tls_on_io(sk, false);
	if (tcp_enabled && protocol == IPPROTO_TCP)
		tcp_on_call(sk, length, 0, CALL_WRITE);
	else if (udp_enabled && protocol == IPPROTO_UDP)
		udp_sent(sk, length);
	return 0;
}

/* Only where sock_recv_length is missing (before 6.3): what a call has read; there is nothing for what it writes. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(tcp_read, struct sock *sk)
{
	if (tls_enabled)
		tls_on_io(sk, true);
	if (tcp_enabled)
		tcp_new_caller(sk, 0, 0, CALL_ANY);
	return 0;
}

/*
 * Who looks at packets, each a function of its own: inlined into one, their variables would share one frame, and the
 * verifier counts how deep that is reached.
 */
#define LOOKS(probe) \
static __noinline int probe##_looks(struct packet *packet) \
{ \
	probe##_on_packet(packet); \
	return 0; \
}

LOOKS(http2)
LOOKS(http2_upgrade)
LOOKS(dns)
LOOKS(db)
LOOKS(nat)
LOOKS(capture)

static __noinline int cgroup_looks(struct __sk_buff *skb, u64 id, bool turn, bool ingress)
{
	cgroup_at_entry(skb, id, turn, ingress, true);
	return 0;
}

static __noinline int cgroup_looks_510(struct __sk_buff *skb, bool ingress)
{
	cgroup_at_entry(skb, bpf_skb_cgroup_id(skb), turn_now(), ingress, false);
	return 0;
}

/* Any packet of a socket, whether or not it can be parsed. */
static __always_inline void cgroup_on_packet(struct __sk_buff *skb, bool ingress)
{
	u64 id = bpf_skb_cgroup_id(skb);
	u32 turn = turn_now();

	if (!cgroup_at_slot(skb, id, turn, ingress))
		cgroup_looks(skb, id, turn, ingress);
}

/* Every packet that a socket of this host sends or is to get, in all network namespaces: it always passes. */
static __always_inline int on_packet(struct __sk_buff *skb, bool ingress, bool atomics)
{
	enum http_look look = HTTP_GENERAL;
	struct packet packet;

	if (cgroup_enabled && atomics)
		cgroup_on_packet(skb, ingress);
	else if (cgroup_enabled)
		cgroup_looks_510(skb, ingress);
	if (!http_enabled && !http2_enabled && !dns_enabled && !nat_enabled && !capture_enabled &&
	    !db_enabled())
		return 1;
	if (atomics && http_enabled)
		look = http_quick(skb, ingress);
	if (look == HTTP_BARE || (look == HTTP_COMMON && !capture_enabled))
		return 1;
	if (!packet_parse(skb, ingress, &packet))
		return 1;
	if (packet_is_bare(&packet))
		return 1;
	if (skb->sk)
		packet.sk = bpf_sk_fullsock(skb->sk);
	packet_socket_ports(&packet);
	if (db_enabled() && db_is_at(&packet))
		db_looks(&packet);
	if (atomics && http_enabled && look < HTTP_NOTED) {
		http_on_packet(&packet, look);
		if (http2_enabled)
			http2_upgrade_looks(&packet);
	}
	if (http2_enabled)
		http2_looks(&packet);
	if (dns_enabled)
		dns_looks(&packet);
	if (nat_enabled)
		nat_looks(&packet);
	if (capture_enabled)
		capture_looks(&packet);
	return 1;
}

SEC("cgroup_skb/ingress")
int skb_in(struct __sk_buff *skb)
{
	return on_packet(skb, true, true);
}

SEC("cgroup_skb/egress")
int skb_out(struct __sk_buff *skb)
{
	return on_packet(skb, false, true);
}

/* Before 5.12, where there is no compare-and-exchange: without HTTP/1. */
SEC("cgroup_skb/ingress")
int skb_in_510(struct __sk_buff *skb)
{
	return on_packet(skb, true, false);
}

SEC("cgroup_skb/egress")
int skb_out_510(struct __sk_buff *skb)
{
	return on_packet(skb, false, false);
}

/* Each with a stack of its own, for kernels before 6.13 count all of a program's frames against 512 bytes. */
static __noinline int tcp_changed(struct sock *sk, int oldstate, int newstate)
{
	return tcp_on_state(sk, oldstate, newstate);
}

static __noinline int http_closed(struct sock *sk)
{
	http_on_close(sk);
	return 0;
}

/*
 * The kernel skips a tracing program that would interrupt itself: a state change in softirq, while the same processor is in
 * this program for a call such as connect(), is missed. What is missed is mended: an establishment by the first call on the
 * socket (tcp_missed), an end by tcp_destroy, which runs with softirqs off and so is never skipped. `sonde_program.missed`
 * counts what the kernel skipped.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int oldstate, int newstate)
{
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (tcpstate_enabled && !tcp_enabled)
		tcpstate_alone(sk, oldstate, newstate);
	if (newstate != TCP_CLOSE)
		return tcp_enabled ? tcp_changed(sk, oldstate, newstate) : 0;
	if (tcpstate_enabled && tcp_enabled)
		tcpstate_looks(sk, oldstate, newstate);
	if (http_enabled)
		http_closed(sk);
	if (tcp_enabled)
		tcp_closed(sk, oldstate);
	return 0;
}

static __noinline int tcp_destroyed(struct sock *sk)
{
	return tcp_on_destroy(sk, true);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_destroy, struct sock *sk)
{
	if (http_enabled)
		http_closed(sk);
	if (tcp_enabled)
		tcp_destroyed(sk);
	return 0;
}

/* A process that owns sockets called exec: announce it again, under its new name. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	u32 tgid = current_tgid();
	struct owner owner;

	if (exec_announced)
		announce_exec(tgid);
	if (process_enabled)
		process_on_exec(task, bprm);
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
	if (tcp_enabled && sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP &&
	    sock_is_inet_probe(sk, SOCK_STREAM))
		tcp_found(sk, task);
	return 0;
}

/* Most calls are of no source but one: what is cheap to ask comes first. */
static __always_inline int on_sys_exit(struct pt_regs___syscall *regs, long result, bool timed,
				       u64 took_ns)
{
	u32 nr = syscall_nr(regs);
	struct file_call call;
	bool moves = fileio_enabled && file_call_of(nr, &call) && !level_of(LEVEL_FILEIO);
	struct caller caller;

	if (!syscalls_enabled && !moves)
		return 0;
	caller_now(&caller);
	if (syscalls_enabled && syscalls_timed && timed)
		syscalls_on_exit_timed(caller.tgid, nr | caller.compat, result, took_ns);
	else if (syscalls_enabled)
		syscalls_on_exit_plain(caller.tgid, nr | caller.compat, result);
	if (moves && !caller.compat)
		fileio_on_exit(&call, &caller, regs, result, fileio_timed ? took_ns : 0);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs___syscall *regs, long result)
{
	bool timed = (syscalls_enabled && syscalls_timed) || (fileio_enabled && fileio_timed);

	return on_sys_exit(regs, result, true, timed ? syscall_took() : 0);
}

/* Before 5.11, where there is no storage of a task. */
SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit_510, struct pt_regs___syscall *regs, long result)
{
	return on_sys_exit(regs, result, false, 0);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs___syscall *regs, long nr)
{
	struct file_call call;

	if ((syscalls_enabled && syscalls_timed && !level_of(LEVEL_SYSCALLS)) ||
	    (!level_of(LEVEL_FILEIO) && file_call_of(nr, &call)))
		syscall_begin();
	return 0;
}
