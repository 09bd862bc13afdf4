/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Sessions of TLS libraries, and the sockets that they are on.
 *
 * Which socket a session is on: a socket that the thread reads or writes within a call of the library is the session's. A
 * library that never touches sockets (memory BIOs: Node, asyncio) is given what the thread has received: the first call behind
 * a receive that reads, or shakes hands, speaks for that socket, unless another session reads before the next receive. A
 * session has the socket that two such calls in a row have spoken for; until then it is on none.
 */
#ifndef SONDE_TLS_SESSION_H
#define SONDE_TLS_SESSION_H

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

enum tls_guessed {
	TLS_SURE = 0, /* a call has used the socket itself; or none is known */
	TLS_GUESSED = 1, /* one receive speaks for it */
	TLS_CONFIRMED = 2, /* and a second one */
};

struct tls_conn {
	struct http_conn http;
	struct tls_socket socket;
	u32 read; /* bytes so far, as sequence numbers */
	u32 written;
	u32 known; /* one end has begun a request: it is HTTP/1 */
	u32 h2_role; /* HTTP2_CLIENT or HTTP2_SERVER: it is HTTP/2 */
	u32 guessed; /* enum tls_guessed */
	u32 calls; /* that used no socket themselves */
	u64 h2_name; /* names the connection in its records: its socket may be known later, or be another */
	struct http2_way h2_way[2]; /* what is read, what is written */
};

/* What a thread is doing, from its first call of a TLS library on. */
struct tls_thread {
	struct tls_socket received; /* the last that it read */
	struct tls_socket used; /* within this call */
	struct tls_socket shaken; /* received before the last call that shook hands, */
	u64 shaken_session; /* which was this session's */
	u64 shaking; /* the session of the call that shakes hands now; 0: none */
	struct tls_socket voted; /* for this one speaks the last receive, */
	u64 voted_session; /* as this session's */
	u64 session; /* of this call; 0: none */
	u64 last; /* of the last call that read something, or what was received */
	u64 buffer;
	u64 done; /* where the call puts how much it did, for those that do */
	u32 length;
	u8 reads;
	u8 fresh; /* sockets received from since the last call that reads or shakes hands: 0, 1, or more */
	u8 loose; /* receives for several sessions before it reads: above 0 no receive speaks */
	u8 shaken_again; /* two calls of this session that shook hands had received from the same socket */
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

/* Closed, or another's memory by now. */
static __always_inline bool tls_is_gone(struct tls_socket *socket)
{
	struct sock *sk = (struct sock *)socket->sk;

	return (u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) != socket->cookie ||
	       BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE;
}

static __always_inline void tls_name_ends(struct http_record *rec, u64 sk)
{
	struct conn_ends ends;

	conn_ends_of_sock(sk, &ends);
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
	/* numbers of 53 bits, which no cookie has */
	conn->h2_name = 1ULL << 52 | (u64)bpf_get_prandom_u32() << 16 |
			(key->session >> 4 & 0xffff);
	tls_name_owner(conn);
	return 1;
}

/* A receive speaks for this socket. */
static __always_inline void tls_vote(struct tls_conn *conn, struct tls_socket *socket)
{
	bool again = socket->cookie == conn->socket.cookie;

	if (!socket->cookie || (conn->socket.cookie && conn->guessed != TLS_GUESSED))
		return;
	conn->socket = *socket;
	conn->guessed = again ? TLS_CONFIRMED : TLS_GUESSED;
	if (again)
		tls_name_ends(&conn->http.rec, socket->sk);
}

/* What the last receive has spoken for stands. */
static __noinline int tls_cast(struct tls_thread *thread, u32 tgid)
{
	struct tls_key key = { .tgid = tgid };
	struct tls_conn *conn;

	if (!thread || !thread->voted_session)
		return 0;
	key.session = thread->voted_session;
	thread->voted_session = 0;
	conn = bpf_map_lookup_elem(&tls_conns, &key);
	if (conn)
		tls_vote(conn, &thread->voted);
	return 0;
}

static __always_inline void tls_on_io(struct sock *sk, bool received)
{
	u64 id = bpf_get_current_pid_tgid();
	struct tls_thread *thread = bpf_map_lookup_elem(&tls_threads, &id);
	struct tls_socket socket = { .sk = (u64)sk };

	socket.cookie = sk->__sk_common.skc_cookie.counter;
	if (!socket.cookie) /* nobody has asked for it yet, and Go's programs can only read it */
		socket.cookie = bpf_get_socket_cookie(sk);
	if (!thread)
		return;
	thread->used = socket;
	if (received) {
		if (thread->voted_session)
			tls_cast(thread, id >> 32);
		if (!thread->fresh)
			thread->fresh = 1;
		else if (thread->received.cookie != socket.cookie)
			thread->fresh = 2;
		thread->received = socket;
	}
}

/* The call has used this socket. */
static __always_inline void tls_settle(struct tls_conn *conn, struct tls_socket *socket)
{
	if (socket->cookie == conn->socket.cookie && !conn->guessed)
		return;
	conn->socket = *socket;
	conn->guessed = TLS_SURE;
	tls_name_ends(&conn->http.rec, socket->sk);
}

/* A guess whose socket has closed was wrong, or does not matter any more. */
static __always_inline bool tls_forget_guess(struct tls_conn *conn)
{
	if (conn->guessed != TLS_GUESSED)
		return false;
	conn->socket.cookie = 0;
	conn->guessed = TLS_SURE;
	return true;
}

/* At this address another session, on another socket, was before. */
static __always_inline bool tls_is_former(struct tls_conn *conn, struct tls_socket *used)
{
	if (!conn->socket.cookie || conn->guessed)
		return false;
	return used->cookie ? used->cookie != conn->socket.cookie : tls_is_gone(&conn->socket);
}

/* The session, on the socket that the call has used; a cookie of 0: none. */
static __always_inline struct tls_conn *tls_conn_of(struct tls_key *key, struct tls_socket *used)
{
	struct tls_conn *conn = bpf_map_lookup_elem(&tls_conns, key);

	if (!conn || tls_is_former(conn, used)) {
		tls_renew(key);
		conn = bpf_map_lookup_elem(&tls_conns, key);
		if (!conn)
			return NULL;
	}
	if (used->cookie)
		tls_settle(conn, used);
	return conn;
}

#define TLS_LOOSE 8 /* as many times must a thread read what it has just received, after it has not */

/*
 * Whether this read gives what was just received, as far as that shows. Some programs (Python's anyio) receive for many sessions
 * and read later: then nothing tells which is whose.
 */
static __always_inline void tls_watch(struct tls_thread *thread, struct tls_conn *conn, u64 session)
{
	bool known = conn->guessed == TLS_CONFIRMED;
	bool other = thread->received.cookie != conn->socket.cookie;

	if (thread->fresh ? known && other : thread->last != session) {
		thread->loose = TLS_LOOSE;
		thread->voted_session = 0;
	} else if (thread->loose && thread->fresh && known) {
		thread->loose--;
	}
}

/* What was received, where the call has used no socket itself. */
static __always_inline void tls_guess(struct tls_thread *thread, struct tls_conn *conn, u64 session,
				      bool gave)
{
	bool is_new = !conn->calls++;

	if (thread->reads && gave)
		tls_watch(thread, conn, session);
	if (thread->reads && !thread->fresh && !is_new && thread->voted_session != session)
		thread->voted_session = 0;
	if (thread->loose)
		return;
	if (thread->shaken_session == session) {
		thread->shaken_session = 0;
		tls_vote(conn, &thread->shaken);
		if (thread->shaken_again)
			tls_vote(conn, &thread->shaken);
	}
	if (!thread->reads || !thread->fresh)
		return;
	if (conn->guessed && conn->socket.cookie == thread->received.cookie) {
		tls_vote(conn, &thread->received);
	} else {
		thread->voted = thread->received;
		thread->voted_session = session;
	}
}

#endif
