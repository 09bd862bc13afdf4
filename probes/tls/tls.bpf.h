/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Requests under TLS, from what programs give to and get from their TLS library (OpenSSL, GnuTLS) before it is encrypted
 * and after it is decrypted. The bytes go through the reader of messages of the `http` source (probes/http/message.bpf.h).
 */
#ifndef SONDE_TLS_H
#define SONDE_TLS_H

#include "session.bpf.h"

/* ---- what was said ---- */

/* Bytes of the plain text, in order. A global function: the verifier proves it once. */
__noinline int tls_feed(struct tls_conn *conn, struct http_bytes *from, u32 reads)
{
	struct http_conn *c;

	if (!conn || !from)
		return 0;
	c = &conn->http;
	if (conn->h2_role || (!conn->known && tls_h2_begins(conn, from, reads))) {
		tls_h2_feed(conn, from, reads);
		return 0;
	}
	if (!conn->known) {
		if (!http_line_user(from->user, from->length))
			return 0;
		conn->known = true;
		c->rec.role = reads ? ROLE_INCOMING : ROLE_OUTGOING;
		c->request_known = true;
		c->request_end = c->request_next = from->seq;
		c->response_end = c->response_next = reads ? conn->written : conn->read;
	}
	http_on_bytes(c, from, reads == (c->rec.role == ROLE_INCOMING));
	return 0;
}

static __always_inline int tls_moved(struct tls_conn *conn, u64 buffer, u32 length, bool reads)
{
	struct http_bytes from = { .user = buffer, .length = length };

	from.seq = reads ? conn->read : conn->written;
	from.now = bpf_ktime_get_ns();
	if (!conn->http.off)
		tls_feed(conn, &from, reads);
	if (reads)
		conn->read += length;
	else
		conn->written += length;
	return 0;
}
/* The call has moved `length` bytes; 0 or less: none. */
static __always_inline int tls_done(long length)
{
	u64 id = bpf_get_current_pid_tgid();
	struct tls_thread *thread = bpf_map_lookup_elem(&tls_threads, &id);
	struct tls_key key = { .tgid = id >> 32 };
	struct tls_socket used;
	struct tls_conn *conn;

	if (!thread || !thread->session)
		return 0;
	key.session = thread->session;
	thread->session = 0;
	used = thread->used;
	conn = tls_conn_of(&key, &used);
	if (conn && !used.cookie)
		tls_guess(thread, conn, key.session, length > 0);
	if (thread->reads) {
		if (thread->fresh || length > 0)
			thread->last = key.session;
		thread->fresh = 0;
	}
	if (conn && length > 0)
		tls_moved(conn, thread->buffer, length, thread->reads);
	return 0;
}

static __always_inline struct tls_thread *tls_thread_here(void)
{
	u64 id = bpf_get_current_pid_tgid();
	struct tls_thread *thread = bpf_map_lookup_elem(&tls_threads, &id);
	struct tls_thread blank = {};

	if (thread)
		return thread;
	bpf_map_update_elem(&tls_threads, &id, &blank, BPF_NOEXIST);
	return bpf_map_lookup_elem(&tls_threads, &id);
}

static __always_inline int tls_begin(struct pt_regs *ctx, bool reads)
{
	struct tls_thread *thread = tls_thread_here();

	if (!thread)
		return 0;
	if (!reads && thread->voted_session)
		tls_cast(thread, current_tgid());
	thread->session = PT_REGS_PARM1(ctx);
	thread->buffer = PT_REGS_PARM2(ctx);
	thread->length = PT_REGS_PARM3(ctx);
	thread->done = PT_REGS_PARM4(ctx);
	thread->reads = reads;
	thread->used.cookie = 0;
	return 0;
}

/* ---- the library's functions ---- */

SEC("uprobe")
int tls_read(struct pt_regs *ctx)
{
	return tls_begin(ctx, true);
}

SEC("uprobe")
int tls_write(struct pt_regs *ctx)
{
	return tls_begin(ctx, false);
}

/* A file, which the kernel encrypts (kTLS): the body of a response, whose bytes no call of the library has. */
SEC("uprobe")
int tls_sendfile(struct pt_regs *ctx)
{
	struct tls_thread *thread;

	tls_begin(ctx, false);
	thread = tls_thread_here();
	if (thread)
		thread->buffer = 0; /* the second argument is the file's descriptor */
	return 0;
}

/* Of those that return how much they did. */
SEC("uretprobe")
int tls_return(struct pt_regs *ctx)
{
	return tls_done((int)PT_REGS_RC(ctx));
}

/* Of those that return 1 for success, and how much through a pointer. */
SEC("uretprobe")
int tls_return_ex(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct tls_thread *thread = bpf_map_lookup_elem(&tls_threads, &id);
	u64 length = 0;

	if (thread && (int)PT_REGS_RC(ctx) > 0)
		bpf_probe_read_user(&length, sizeof(length), (void *)thread->done);
	return tls_done(length);
}

/* The sockets of the handshake are seen from here on. */
SEC("uprobe")
int tls_handshake(struct pt_regs *ctx)
{
	struct tls_thread *thread = tls_thread_here();
	u64 session = PT_REGS_PARM1(ctx);

	if (!thread)
		return 0;
	thread->shaking = session;
	thread->used.cookie = 0;
	if (!thread->fresh)
		return 0;
	if (thread->fresh == 1) {
		thread->shaken_again = thread->shaken_session == session &&
				       thread->shaken.cookie == thread->received.cookie;
		thread->shaken = thread->received;
		thread->shaken_session = session;
	}
	thread->last = session;
	thread->fresh = 0;
	return 0;
}

/* The handshake may have read the first request as well: no call for it may use the socket. */
SEC("uretprobe")
int tls_shaken(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct tls_thread *thread = bpf_map_lookup_elem(&tls_threads, &id);
	struct tls_key key = { .tgid = id >> 32 };
	struct tls_socket used;

	if (!thread || !thread->shaking)
		return 0;
	key.session = thread->shaking;
	thread->shaking = 0;
	used = thread->used;
	if (used.cookie)
		tls_conn_of(&key, &used);
	return 0;
}

/* The session ends. */
SEC("uprobe")
int tls_free(struct pt_regs *ctx)
{
	struct tls_key key = { .session = PT_REGS_PARM1(ctx), .tgid = current_tgid() };
	u64 id = bpf_get_current_pid_tgid();
	struct tls_thread *thread = bpf_map_lookup_elem(&tls_threads, &id);
	struct tls_conn *conn;

	if (thread && thread->voted_session == key.session)
		tls_cast(thread, key.tgid);
	conn = bpf_map_lookup_elem(&tls_conns, &key);
	if (!conn)
		return 0;
	if (conn->h2_role)
		conn->http.last_ns = bpf_ktime_get_ns();
	tls_end(conn);
	bpf_map_delete_elem(&tls_conns, &key);
	return 0;
}

#include "go.bpf.h"

/* ---- the sweep ---- */

SEC("iter/bpf_map_elem")
int tls_sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	struct tls_key *key_now = ctx->key;
	struct tls_conn *conn;
	struct tls_key key;

	if (!key_now || ring_nearly_full())
		return 0;
	key = *key_now;
	conn = bpf_map_lookup_elem(&tls_conns, &key);
	if (!conn)
		return 0;
	if (conn->socket.cookie ? tls_is_gone(&conn->socket) && !tls_forget_guess(conn) :
				  bpf_ktime_get_ns() - conn->http.last_ns > TLS_IDLE_NS) {
		tls_end(conn);
		bpf_map_delete_elem(&tls_conns, &key);
		return 0;
	}
	http_sweep_run(&conn->http);
	http_sweep_message(&conn->http);
	return 0;
}

#endif
