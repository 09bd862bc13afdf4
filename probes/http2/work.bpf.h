/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A packet in work: taken piece by piece into a record, each piece by a global function, which the verifier proves once, so
 * that the loops around them cost it nothing. http2.bpf.h says which packets, and from where.
 */
#ifndef SONDE_HTTP2_WORK_H
#define SONDE_HTTP2_WORK_H

#include "frame.bpf.h"

/* Sends what the record has, and begins the next. */
static __always_inline void http2_flush(struct http2_work *work)
{
	struct http2_record *rec = &work->rec;
	u32 size = rec->length;

	rec->to = work->seq;
	rec->skip = work->way.want ? 0 : work->way.skip;
	asm volatile("" : "+r"(size)); /* else the compiler proves the bound away, and the verifier has none */
	size &= 2 * HTTP2_DATA - 1;
	/* A record that finds no room is missed by the decoder, which sees that `after` is not where it was. */
	if (!ring_output(rec, sizeof(*rec) + size))
		count(COUNT_HTTP2_RING);
	work->way.told = rec->to;
	rec->after = rec->to;
	rec->length = 0;
	rec->head.flags &= HTTP2_EGRESS | HTTP2_CLIENT | HTTP2_SERVER | HTTP2_RAW | HTTP2_HOLE |
			   HTTP2_TLS | HTTP2_PARKED | HTTP2_ADOPTED;
	work->interest = work->way.have || work->way.want;
	if (!work->interest)
		rec->head.flags |= HTTP2_AT_HEAD;
}

static __always_inline void http2_advance(struct http2_work *work, u32 bytes)
{
	work->at += bytes;
	work->left -= bytes;
	work->seq += bytes;
}

static __always_inline int http2_skip(struct http2_work *work)
{
	struct http2_way *way = &work->way;
	u32 n = way->skip < work->left ? way->skip : work->left;

	way->skip -= n;
	http2_advance(work, n);
	if (!way->skip && way->ends_stream) {
		way->ends_stream = 0;
		work->interest = 1; /* the time of a stream's end is told, even where there is nothing else to tell */
	}
	return 0;
}

/* A head is complete. 1: it is none, and this direction has lost its place. */
static __always_inline int http2_take_head(struct http2_work *work)
{
	struct http2_way *way = &work->way;
	struct http2_head head;

	http2_read_head(way->head, &head);
	way->have = 0;
	if (!http2_is_frame(&head)) {
		way->state = HTTP2_LOST;
		count(COUNT_HTTP2_LOST);
		return 1;
	}
	way->want = http2_want(&head);
	way->skip = head.length - way->want;
	way->ends_stream = way->skip && head.type == HTTP2_DATA_FRAME &&
			   head.flags & HTTP2_END_STREAM;
	if (http2_is_of_interest(head.type))
		work->interest = 1;
	return 0;
}

/* Takes the next piece: what is skipped, what is sent, or a head. 1: no more. */
static __always_inline int http2_step_of(struct __sk_buff *skb, u64 user, u32 slot,
					 const bool in_user)
{
	struct http2_work *work = bpf_map_lookup_elem(&http2_works, &slot);
	struct http2_way *way;
	u32 n, place;

	if (!work || !work->left)
		return 1;
	way = &work->way;
	if (way->skip && !way->want)
		return http2_skip(work);
	n = way->want ? way->want : HTTP2_HEAD_BYTES - way->have;
	if (n > work->left)
		n = work->left;
	if (n > HTTP2_DATA)
		n = HTTP2_DATA;
	if (n > HTTP2_DATA - work->rec.length)
		http2_flush(work);
	/* 1 <= n <= HTTP2_DATA; the compiler and the verifier both lose sight of it otherwise */
	asm volatile("" : "+r"(n));
	n = ((n - 1) & (HTTP2_DATA - 1)) + 1;
	place = work->rec.length & (HTTP2_DATA - 1);
	if (http2_load(skb, user, work->at, &work->data[place], n, in_user))
		return 1;
	if (way->want) {
		way->want -= n;
		work->interest = 1;
	} else {
		u32 part = n;

		asm volatile("" : "+r"(part));
		part = ((part - 1) & 15) + 1;
		if (http2_load(skb, user, work->at, &way->head[way->have & 15], part, in_user))
			return 1;
		way->have += part;
	}
	work->rec.length += n;
	http2_advance(work, n);
	return way->have == HTTP2_HEAD_BYTES ? http2_take_head(work) : 0;
}

/* A global function, as above. */
__noinline int http2_step(struct __sk_buff *skb, u32 slot)
{
	return http2_step_of(skb, 0, slot, false);
}

/* The loops, too, are global: before 6.4 the verifier walks all their rounds again for each way that leads there. */
__noinline int http2_steps(struct __sk_buff *skb, u32 slot)
{
	for (u32 i = 0; i < HTTP2_STEPS; i++)
		if (http2_step(skb, slot))
			return 1;
	return 0;
}

__noinline int http2_all_steps(struct __sk_buff *skb, u32 slot)
{
	for (u32 i = 0; i < HTTP2_STEPS_TIMES; i++)
		if (http2_steps(skb, slot))
			break;
	return 0;
}

/* The next piece of a packet that is sent as it is. 1: no more. A global function, as above. */
__noinline int http2_raw_step(struct __sk_buff *skb, u32 slot)
{
	struct http2_work *work = bpf_map_lookup_elem(&http2_works, &slot);
	u32 n;

	if (!work || !work->left)
		return 1;
	n = work->left < HTTP2_DATA ? work->left : HTTP2_DATA;
	asm volatile("" : "+r"(n));
	n = ((n - 1) & (HTTP2_DATA - 1)) + 1;
	if (bpf_skb_load_bytes(skb, work->at, work->data, n))
		return 1;
	work->rec.length = n;
	http2_advance(work, n);
	http2_flush(work);
	return 0;
}

__noinline int http2_raw_steps(struct __sk_buff *skb, u32 slot)
{
	for (u32 i = 0; i < HTTP2_RAW_STEPS; i++)
		if (http2_raw_step(skb, slot))
			break;
	return 0;
}

static __always_inline void http2_ends(struct packet *p, struct http2_record *rec)
{
	u64 key = full_sock_of(p);
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &key);
	struct conn_ends ends;

	if (p->sk->state == TCP_LISTEN)
		conn_ends_of_packet(p, &ends);
	else
		conn_ends_of_sock(key, &ends);
	__builtin_memcpy(rec->local_addr, ends.local_addr, 16);
	__builtin_memcpy(rec->peer_addr, ends.peer_addr, 16);
	__builtin_memset(&rec->owner, 0, sizeof(rec->owner));
	rec->netns = ends.netns;
	rec->family = ends.family;
	rec->local_port = p->local_port;
	rec->peer_port = p->peer_port;
	rec->role = ROLE_UNKNOWN;
	if (!conn)
		return;
	rec->owner = conn->owner;
	rec->role = conn->role;
}

static __always_inline struct http2_work *http2_take_work(u32 *slot)
{
	for (u32 i = 0; i < HTTP2_SLOTS; i++) {
		u32 key = i; /* the verifier loses count of what is in memory */
		struct http2_work *work = bpf_map_lookup_elem(&http2_works, &key);

		if (work && !work->busy) {
			work->busy = 1;
			*slot = i;
			return work;
		}
	}
	return NULL;
}

/* After the steps: sends what is not sent yet, if it is worth a record. */
static __always_inline void http2_put_back(struct http2_work *work, struct http2_way *way)
{
	if (work->left && work->way.state == HTTP2_FOLLOWED) {
		work->way.state = HTTP2_LOST; /* too many frames, or bytes that cannot be read */
		count(COUNT_HTTP2_LOST);
	}
	/* WINDOW_UPDATE, PING and SETTINGS alone are not worth a record, unless the bytes end within one */
	if (work->interest ||
	    (work->rec.length && (work->way.have || work->way.want || work->way.skip)))
		http2_flush(work);
	*way = work->way;
	work->busy = 0;
}

static __always_inline struct http2_way *http2_way_of(struct http2_talk *talk, bool ingress)
{
	u32 i = ingress;

	asm volatile("" : "+r"(i)); /* the verifier believes a mask, not a bool */
	return &talk->way[~i & 1];
}

#endif
