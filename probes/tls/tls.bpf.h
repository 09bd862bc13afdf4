/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Requests under TLS, from what programs give to and get from their TLS library (OpenSSL, GnuTLS) before it is encrypted
 * and after it is decrypted. The bytes go through the reader of messages of the `http` source (probes/http/message.bpf.h).
 *
 * Which socket a session is on: a socket that the thread reads or writes within a call of the library is the session's. A
 * library that never touches sockets (memory BIOs: Node, asyncio) is given what the thread has just received: the first call
 * behind a receive that reads, or shakes hands, is of the session on that socket. A client's first call has received
 * nothing yet, and what was received before it is another's: it names no socket, unless it gives plain text.
 */
#ifndef SONDE_TLS_H
#define SONDE_TLS_H

#include "../http/http.bpf.h"
#include "../http2/frame.bpf.h"

#define TLS_IDLE_NS (300ULL * 1000000000) /* a session without a socket is forgotten after this time */

struct tls_key {
	u64 session; /* address of SSL, gnutls_session_t or tls.Conn */
	u32 tgid;
	u32 unused;
};

/* The socket of a session; a cookie of 0: unknown. */
struct tls_socket {
	u64 sk;
	u64 cookie;
};

struct tls_conn {
	struct http_conn http;
	struct tls_socket socket;
	u32 read; /* bytes so far, as sequence numbers */
	u32 written;
	u32 known; /* one end has begun a request: it is HTTP/1 */
	u32 h2_role; /* HTTP2_CLIENT or HTTP2_SERVER: it is HTTP/2 */
	u32 guessed; /* no call has used the socket itself */
	u32 doubts; /* reads in a row that speak for another socket than the guessed one */
	u64 h2_name; /* names the connection where its socket is not known */
	struct http2_way h2_way[2]; /* what is read, what is written */
};

/* What a thread is doing, from its first call of a TLS library on. */
struct tls_thread {
	struct tls_socket received; /* the last that it read */
	struct tls_socket used; /* within this call */
	struct tls_socket shaken; /* received before the last call that shook hands, */
	u64 shaken_session; /* which was this session's */
	u64 session; /* of this call; 0: none */
	u64 buffer;
	u64 done; /* where the call puts how much it did, for those that do */
	u32 length;
	u16 reads;
	u16 fresh; /* no session has been given `received` yet */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* configuration: collector.maps.sockets_max */
	__uint(map_flags, BPF_F_NO_PREALLOC); /* memory only for what is open */
	__type(key, struct tls_key);
	__type(value, struct tls_conn);
} tls_conns SEC(".maps");

/* Zeros: an entry is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct tls_conn);
} tls_blank SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* tgid << 32 | tid */
	__type(value, struct tls_thread);
} tls_threads SEC(".maps");

#include "h2.bpf.h"

/* ---- sockets ---- */

static __always_inline void tls_on_io(struct sock *sk, bool received)
{
	u64 id = bpf_get_current_pid_tgid();
	struct tls_thread *thread = bpf_map_lookup_elem(&tls_threads, &id);
	struct tls_socket socket;

	if (!thread)
		return;
	socket.sk = (u64)sk;
	socket.cookie = sk->__sk_common.skc_cookie.counter;
	if (!socket.cookie)
		socket.cookie = bpf_get_socket_cookie(sk);
	thread->used = socket;
	if (received) {
		thread->received = socket;
		thread->fresh = true;
	}
}

/* Closed, or another's memory by now. */
static __always_inline bool tls_is_gone(struct tls_socket *socket)
{
	struct sock *sk = (struct sock *)socket->sk;

	return (u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) != socket->cookie ||
	       BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE;
}

static __always_inline void tls_name_ends(struct http_record *rec, u64 sk)
{
	struct http_ends ends;

	http_ends_of(sk, &ends);
	rec->family = ends.family;
	rec->netns = ends.netns;
	rec->local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	rec->peer_port = ends.peer_port;
	__builtin_memcpy(rec->local_addr, ends.local_addr, 16);
	__builtin_memcpy(rec->peer_addr, ends.peer_addr, 16);
}

/* ---- sessions ---- */

static __always_inline void tls_end(struct tls_conn *conn)
{
	tls_h2_end(conn);
	http_end(&conn->http);
}

/* With a stack of its own: the chain from tls_renew is deep without it. */
static __noinline int tls_name_owner(struct tls_conn *conn)
{
	if (conn)
		owner_of_current(&conn->http.rec.owner);
	return 0;
}

/* Zeroed, for a new session at this address; what an older one has left is reported. */
static __noinline int tls_renew(struct tls_key *key)
{
	u32 zero = 0;
	struct tls_conn *blank = bpf_map_lookup_elem(&tls_blank, &zero);
	struct tls_conn *conn;

	if (!key || !blank)
		return 0;
	conn = bpf_map_lookup_elem(&tls_conns, key);
	if (conn)
		tls_end(conn);
	if (bpf_map_update_elem(&tls_conns, key, blank, BPF_ANY)) {
		count(COUNT_TLS_CONN_FULL);
		return 0;
	}
	conn = bpf_map_lookup_elem(&tls_conns, key);
	if (!conn)
		return 0;
	conn->http.rec.head.kind = RECORD_HTTP;
	conn->http.rec.head.flags = HTTP_TLS;
	conn->http.last_ns = bpf_ktime_get_ns();
	conn->h2_name = 1ULL << 52 | ((key->session >> 4) ^ (u64)key->tgid << 24) % (1ULL << 48);
	tls_name_owner(conn);
	return 1;
}

#define TLS_DOUBTS 2 /* as often must a read speak against a guess */

/* True: the session is on another socket than was guessed. */
static __always_inline bool tls_mistaken(struct tls_conn *conn, struct tls_socket *now, bool sure)
{
	if (now->cookie == conn->socket.cookie) {
		conn->doubts = 0;
		if (sure)
			conn->guessed = false;
		return false;
	}
	return conn->guessed && (sure || ++conn->doubts >= TLS_DOUBTS);
}

/* At this address another session, on another socket, was before. */
static __always_inline bool tls_is_former(struct tls_conn *conn, struct tls_socket *now, bool sure)
{
	if (!conn->socket.cookie)
		return false;
	if (!sure)
		return tls_is_gone(&conn->socket);
	return now->cookie != conn->socket.cookie && !conn->guessed;
}

/* The session, on the socket that it is on. `sure`: the call has used it; else it is a guess. */
static __always_inline struct tls_conn *tls_conn_of(struct tls_key *key, struct tls_socket *now,
						    bool sure)
{
	struct tls_conn *conn = bpf_map_lookup_elem(&tls_conns, key);

	if (!conn || tls_is_former(conn, now, sure)) {
		tls_renew(key);
		conn = bpf_map_lookup_elem(&tls_conns, key);
		if (!conn)
			return NULL;
	}
	if (now->cookie && (!conn->socket.cookie || tls_mistaken(conn, now, sure))) {
		conn->socket = *now;
		conn->guessed = !sure;
		conn->doubts = 0;
		tls_name_ends(&conn->http.rec, now->sk);
	}
	return conn;
}

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
	if (reads == (c->rec.role == ROLE_INCOMING))
		http_on_request(NULL, c, from, true);
	else
		http_on_response(NULL, c, from, true);
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

/* What speaks for a socket where the call has used none. */
static __always_inline void tls_guess(struct tls_thread *thread, struct tls_key *key, long length,
				      struct tls_socket *socket)
{
	struct tls_conn *conn = bpf_map_lookup_elem(&tls_conns, key);
	bool is_new = !conn, is_named = conn && conn->socket.cookie;

	if (thread->reads && thread->fresh && (length > 0 || (!is_new && !is_named)))
		*socket = thread->received;
	else if (!is_named && thread->shaken_session == key->session)
		*socket = thread->shaken;
}

/* The call has moved `length` bytes; 0 or less: none. */
static __always_inline int tls_done(long length)
{
	u64 id = bpf_get_current_pid_tgid();
	struct tls_thread *thread = bpf_map_lookup_elem(&tls_threads, &id);
	struct tls_key key = { .tgid = id >> 32 };
	struct tls_socket socket;
	struct tls_conn *conn;
	bool sure;

	if (!thread || !thread->session)
		return 0;
	key.session = thread->session;
	thread->session = 0;
	socket = thread->used;
	sure = socket.cookie;
	if (!sure)
		tls_guess(thread, &key, length, &socket);
	if (thread->reads)
		thread->fresh = false;
	conn = tls_conn_of(&key, &socket, sure);
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

	if (!thread || !thread->fresh)
		return 0;
	thread->shaken = thread->received;
	thread->shaken_session = PT_REGS_PARM1(ctx);
	thread->fresh = false;
	return 0;
}

/* The session ends. */
SEC("uprobe")
int tls_free(struct pt_regs *ctx)
{
	struct tls_key key = { .session = PT_REGS_PARM1(ctx), .tgid = current_tgid() };
	struct tls_conn *conn = bpf_map_lookup_elem(&tls_conns, &key);

	if (!conn)
		return 0;
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
	if (conn->socket.cookie ? tls_is_gone(&conn->socket) :
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
