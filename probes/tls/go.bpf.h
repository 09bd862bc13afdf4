/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Go's crypto/tls, by Go's own calling convention (arguments in registers, the goroutine in R14). No return probes: Go moves
 * stacks. What Read gives is seen where it copies it to its caller, at its call of runtime.memmove.
 *
 * The socket: tls.Conn begins with the net.Conn below it, of which a TCPConn begins with a pointer to netFD, which has the
 * descriptor at 16.
 */
#ifndef SONDE_GO_H
#define SONDE_GO_H

#if defined(__TARGET_ARCH_x86)
#define GO_ARG1(ctx) ((ctx)->ax)
#define GO_ARG2(ctx) ((ctx)->bx)
#define GO_ARG3(ctx) ((ctx)->cx)
#define GO_ROUTINE(ctx) ((ctx)->r14)
#else
#define GO_ARG1(ctx) (((struct user_pt_regs *)(ctx))->regs[0])
#define GO_ARG2(ctx) (((struct user_pt_regs *)(ctx))->regs[1])
#define GO_ARG3(ctx) (((struct user_pt_regs *)(ctx))->regs[2])
#define GO_ROUTINE(ctx) (((struct user_pt_regs *)(ctx))->regs[28])
#endif

#define GO_CONN_DATA 8 /* tls.Conn.conn: the pointer of the interface */
#define GO_FD_SYSFD 16
#define GO_SOCKET_MODE 0140000
#define GO_MODE_KIND 0170000

/* Connections that goroutines read from now. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct tls_key); /* session: address of the goroutine */
	__type(value, u64);
} tls_go_reads SEC(".maps");

/* The socket at this descriptor of the current process; 0: none of TCP. */
static __always_inline u64 tls_sock_at(u32 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = NULL;
	struct socket *socket;
	struct sock *sk;

	if (fd >= BPF_CORE_READ(table, max_fds) ||
	    bpf_probe_read_kernel(&file, sizeof(file), files + fd) || !file ||
	    (BPF_CORE_READ(file, f_inode, i_mode) & GO_MODE_KIND) != GO_SOCKET_MODE)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	return sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP ? (u64)sk : 0;
}

static __always_inline void tls_go_socket(u64 conn, struct tls_socket *socket)
{
	struct sock *sk;
	u64 at = 0;
	u32 fd = 0;

	if (bpf_probe_read_user(&at, sizeof(at), (void *)(conn + GO_CONN_DATA)) ||
	    bpf_probe_read_user(&at, sizeof(at), (void *)at) ||
	    bpf_probe_read_user(&fd, sizeof(fd), (void *)(at + GO_FD_SYSFD)))
		return;
	sk = (struct sock *)tls_sock_at(fd);
	if (!sk)
		return;
	socket->sk = (u64)sk;
	socket->cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	if (!socket->cookie)
		socket->sk = 0;
}

/*
 * A goroutine that reads ahead has waited within Read since before the programs stood, and what it got was not seen: a request
 * follows another on a session of which nothing was ever read. That the first had no response is not known: it is left out.
 */
static __always_inline void tls_go_forget(struct tls_conn *conn, u64 buffer, u32 length)
{
	if (!conn->known || conn->read || PHASE(conn->http.message) != HTTP_REQUEST ||
	    !http_line_user(buffer, length))
		return;
	conn->known = false;
	conn->http.message = 0;
	conn->http.pieces = 0;
}

/* The verifier proves it once, for reads and writes. */
__noinline int tls_go_moved(u64 session, u64 buffer, u64 length, u32 reads)
{
	struct tls_key key = { .session = session, .tgid = current_tgid() };
	struct tls_socket socket = {};
	struct tls_conn *conn;

	tls_go_socket(session, &socket);
	conn = tls_conn_of(&key, &socket);
	if (!conn || !length || length > 0x7fffffff)
		return 0;
	if (!reads)
		tls_go_forget(conn, buffer, length);
	tls_moved(conn, buffer, length, reads);
	return 0;
}

SEC("uprobe")
int tls_go_write(struct pt_regs *ctx)
{
	tls_go_moved(GO_ARG1(ctx), GO_ARG2(ctx), GO_ARG3(ctx), false);
	return 0;
}

SEC("uprobe")
int tls_go_read(struct pt_regs *ctx)
{
	struct tls_key reader = { .session = GO_ROUTINE(ctx), .tgid = current_tgid() };
	u64 conn = GO_ARG1(ctx);

	bpf_map_update_elem(&tls_go_reads, &reader, &conn, BPF_ANY);
	return 0;
}

/* At the call of memmove(to, from, n) within Read. */
SEC("uprobe")
int tls_go_copy(struct pt_regs *ctx)
{
	struct tls_key reader = { .session = GO_ROUTINE(ctx), .tgid = current_tgid() };
	u64 *conn = bpf_map_lookup_elem(&tls_go_reads, &reader);

	if (conn)
		tls_go_moved(*conn, GO_ARG2(ctx), GO_ARG3(ctx), true);
	return 0;
}

#endif
