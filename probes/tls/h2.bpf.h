/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/2 under TLS: the plain text of a session goes the way of the `http2` source's packets (probes/http2/work.bpf.h), as the
 * same records; DATA's payload stays here. A session is known by the client's preface, or by a server that sends SETTINGS
 * before it reads that.
 */
#ifndef SONDE_TLS_H2_H
#define SONDE_TLS_H2_H

#include "../http2/work.bpf.h"

/*
 * Pieces of one call: a frame takes two or three. SSL_read gives at most 16 KB, but SSL_write takes any length: Node writes a
 * thousand requests at once.
 */
#define TLS_H2_STEPS 1024
#define TLS_H2_ROUNDS 64

/* A global function, as http2_step. */
__noinline int tls_h2_step(u64 user, u32 slot)
{
	return http2_step_of(NULL, user, slot, true);
}

/* 1: no more. As http2_steps. */
__noinline int tls_h2_steps(u64 user, u32 slot)
{
	for (u32 i = 0; i < TLS_H2_STEPS; i++)
		if (tls_h2_step(user, slot))
			return 1;
	return 0;
}

/* What a record of this session begins with. */
static __always_inline void tls_h2_head(struct tls_conn *conn, struct http2_record *rec, u32 flags)
{
	struct http_record *http = &conn->http.rec;

	rec->head.kind = RECORD_HTTP2;
	rec->head.flags = flags | conn->h2_role | HTTP2_TLS;
	rec->owner = http->owner;
	rec->cookie = conn->h2_name;
	rec->now_ns = bpf_ktime_get_ns();
	rec->netns = http->netns;
	rec->family = http->family;
	rec->local_port = http->local_port;
	rec->peer_port = http->peer_port;
	rec->role = ROLE_UNKNOWN;
	rec->length = 0;
	__builtin_memcpy(rec->local_addr, http->local_addr, 16);
	__builtin_memcpy(rec->peer_addr, http->peer_addr, 16);
}

static __always_inline void tls_h2_follow(struct tls_conn *conn, struct http2_way *way,
					  struct http_bytes *from, u32 ahead, u32 flags)
{
	struct http2_work *work;
	u32 slot;

	work = http2_take_work(&slot);
	if (!work) {
		way->state = HTTP2_LOST;
		count(COUNT_HTTP2_LOST);
		return;
	}
	work->way = *way;
	work->at = ahead;
	work->left = from->length - ahead;
	work->seq = from->seq + ahead;
	work->interest = flags & (HTTP2_BEGIN | HTTP2_RESYNC) || (way->ends_stream && !way->skip);
	if (!way->have && !way->want)
		flags |= HTTP2_AT_HEAD;
	tls_h2_head(conn, &work->rec, flags);
	work->rec.after = way->told;
	for (u32 i = 0; i < TLS_H2_ROUNDS; i++)
		if (tls_h2_steps(from->user, slot))
			break;
	http2_put_back(work, way);
}

/* True: the session speaks HTTP/2, as its first bytes in this direction show. */
static __always_inline bool tls_h2_begins(struct tls_conn *conn, struct http_bytes *from, u32 reads)
{
	u8 bytes[16] = {};
	u64 word;

	if (from->seq || from->length < HTTP2_HEAD_BYTES ||
	    bpf_probe_read_user(bytes, HTTP2_HEAD_BYTES, (void *)from->user))
		return false;
	word = *(u64 *)bytes;
	if (word == HTTP2_PREFACE_WORD && from->length >= HTTP2_PREFACE_BYTES)
		conn->h2_role = reads ? HTTP2_SERVER : HTTP2_CLIENT;
	else if (!bytes[0] && !bytes[1] && bytes[2] % 6 == 0 && bytes[3] == HTTP2_SETTINGS &&
		 !bytes[4] && !bytes[5] && !bytes[6] && !bytes[7] && !bytes[8])
		conn->h2_role = reads ? HTTP2_CLIENT : HTTP2_SERVER;
	else
		return false;
	conn->h2_way[0].state = HTTP2_WAITING;
	conn->h2_way[1].state = HTTP2_WAITING;
	return true;
}

static __always_inline void tls_h2_feed(struct tls_conn *conn, struct http_bytes *from, u32 reads)
{
	struct http2_way *way = reads ? &conn->h2_way[0] : &conn->h2_way[1];
	u32 flags = reads ? 0 : HTTP2_EGRESS, ahead = 0;

	conn->http.last_ns = from->now;
	if (way->state == HTTP2_WAITING) {
		bool client = reads == (conn->h2_role == HTTP2_SERVER);

		if (client && from->length >= HTTP2_PREFACE_BYTES)
			ahead = HTTP2_PREFACE_BYTES;
		way->state = HTTP2_FOLLOWED;
		way->told = from->seq + ahead;
		flags |= HTTP2_BEGIN;
	} else if (way->state == HTTP2_LOST && http2_user_fits(from->user, from->length)) {
		way->state = HTTP2_FOLLOWED;
		way->have = 0;
		way->want = 0;
		way->skip = 0;
		way->ends_stream = 0;
		way->told = from->seq;
		flags |= HTTP2_RESYNC;
	}
	if (way->state == HTTP2_FOLLOWED)
		tls_h2_follow(conn, way, from, ahead, flags);
}

/* The session has ended: what is open in it ends as well. Its record is not for the stack of who calls. */
static __noinline int tls_h2_end(struct tls_conn *conn)
{
	struct http2_record rec = {};

	if (!conn || !conn->h2_role)
		return 0;
	tls_h2_head(conn, &rec, HTTP2_RESET);
	rec.now_ns = conn->http.last_ns; /* who ends it may come long after */
	rec.after = rec.to = conn->h2_way[0].told;
	conn->h2_role = 0;
	if (!ring_output(&rec, sizeof(rec)))
		count(COUNT_HTTP2_RING);
	return 0;
}

#endif
