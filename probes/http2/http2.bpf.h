/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/2 in clear text, from the packets of each socket: skb_in and skb_out call http2_on_packet. A connection is known by
 * its preface, or later by frames that fit into each other; its frames are then followed by sequence number in each direction.
 * To the ring go the heads of frames and what stands in HEADERS and the like; of DATA the head alone, which has its length.
 */
#ifndef SONDE_HTTP2_H
#define SONDE_HTTP2_H

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
	rec->head.flags &= HTTP2_EGRESS | HTTP2_CLIENT | HTTP2_SERVER;
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

/* Takes the next piece of the packet: what is skipped, what is sent, or a head. 1: no more. A global function, as above. */
__noinline int http2_step(struct __sk_buff *skb, u32 slot)
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
	if (bpf_skb_load_bytes(skb, work->at, &work->data[place], n))
		return 1;
	if (way->want) {
		way->want -= n;
		work->interest = 1;
	} else {
		u32 part = n;

		asm volatile("" : "+r"(part));
		part = ((part - 1) & 15) + 1;
		if (bpf_skb_load_bytes(skb, work->at, &way->head[way->have & 15], part))
			return 1;
		way->have += part;
	}
	work->rec.length += n;
	http2_advance(work, n);
	return way->have == HTTP2_HEAD_BYTES ? http2_take_head(work) : 0;
}

/* The socket's address as a number, which the verifier lets a program look up and read by. */
static __always_inline u64 http2_sock_of(struct packet *p)
{
	struct bpf_sock *sk = p->sk;
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return address;
}

static __always_inline void http2_ends(struct packet *p, struct http2_record *rec)
{
	u64 key = http2_sock_of(p);
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &key);
	struct flow_record flow;

	__builtin_memset(&flow, 0, sizeof(flow));
	sock_ends_probe((struct sock *)key, &flow);
	__builtin_memcpy(rec->local_addr, flow.local_addr, 16);
	__builtin_memcpy(rec->peer_addr, flow.peer_addr, 16);
	__builtin_memset(&rec->owner, 0, sizeof(rec->owner));
	rec->netns = flow.netns;
	rec->family = flow.family;
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

static __always_inline struct http2_way *http2_way_of(struct http2_conn *conn, bool ingress)
{
	u32 i = ingress;

	asm volatile("" : "+r"(i)); /* the verifier believes a mask, not a bool */
	return &conn->way[~i & 1];
}

/* Begins to follow this direction at `seq`. */
static __always_inline u32 http2_start(struct http2_way *way, u32 seq)
{
	u32 flags = way->state == HTTP2_WAITING ? HTTP2_BEGIN : HTTP2_RESYNC;

	way->state = HTTP2_FOLLOWED;
	way->have = 0;
	way->want = 0;
	way->skip = 0;
	way->ends_stream = 0;
	way->told = seq;
	return flags;
}

/*
 * True where this direction can be followed from here: behind the preface, at the first byte that answers it, or where
 * packets begin with frames.
 */
static __always_inline bool http2_may_start(struct packet *p, struct http2_way *way, u32 ahead)
{
	u32 at = p->payload_offset + ahead;
	u8 first = 0xff;

	if (way->state == HTTP2_WAITING && ahead == HTTP2_PREFACE_BYTES)
		return true;
	if (way->state == HTTP2_WAITING && way->next == p->seq && p->payload_length &&
	    !bpf_skb_load_bytes(p->skb, at, &first, 1) && !first)
		return true; /* a first frame is short; an answer of HTTP/1 begins with a letter */
	return http2_fits(p->skb, at, p->payload_length - ahead);
}

/* Bytes before `seq` were not seen. Where they are of those that are not sent, that is no harm. */
static __always_inline void http2_hole(struct http2_way *way, u32 bytes)
{
	if (!way->want && !way->have && bytes <= way->skip) {
		way->skip -= bytes;
		return;
	}
	way->state = HTTP2_LOST;
	count(COUNT_HTTP2_LOST);
}

static __always_inline void http2_begin_record(struct packet *p, struct http2_conn *conn,
					       struct http2_work *work, u32 flags)
{
	struct http2_record *rec = &work->rec;
	struct http2_way *way = &work->way;

	rec->head.kind = RECORD_HTTP2;
	rec->head.flags = flags | conn->role_flags | (p->ingress ? 0 : HTTP2_EGRESS);
	if (!way->have && !way->want && way->state == HTTP2_FOLLOWED)
		rec->head.flags |= HTTP2_AT_HEAD;
	rec->cookie = bpf_get_socket_cookie(p->skb);
	rec->now_ns = bpf_ktime_get_ns();
	rec->after = way->told;
	rec->length = 0;
	http2_ends(p, rec);
}

/*
 * The part of a packet behind `ahead` bytes, which are known or of no use. `flags`: HTTP2_BEGIN or HTTP2_RESYNC, and what the
 * packet ends.
 */
static __always_inline void http2_follow(struct packet *p, struct http2_conn *conn,
					 struct http2_way *way, u32 ahead, u32 flags)
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
	work->at = p->payload_offset + ahead;
	work->left = p->payload_length - ahead;
	work->seq = p->seq + ahead;
	/* what was begun in the record before must be gone on with */
	work->interest = flags || way->have || way->want || (way->ends_stream && !way->skip);
	http2_begin_record(p, conn, work, flags);
	for (u32 i = 0; i < HTTP2_STEPS; i++)
		if (http2_step(p->skb, slot))
			break;
	if (work->left && work->way.state == HTTP2_FOLLOWED) {
		work->way.state = HTTP2_LOST; /* too many frames, or bytes that cannot be read */
		count(COUNT_HTTP2_LOST);
	}
	work->rec.head.flags |= flags & (HTTP2_END | HTTP2_RESET); /* of the last record, if there are several */
	/* WINDOW_UPDATE, PING and SETTINGS alone are not worth a record, unless the packet ends within one */
	if (work->interest ||
	    (work->rec.length && (work->way.have || work->way.want || work->way.skip)))
		http2_flush(work);
	*way = work->way;
	work->busy = 0;
}

/* A connection begins here. */
static __always_inline bool http2_is_preface(struct packet *p, u64 word)
{
	u64 rest[2] = {};

	if (word != HTTP2_PREFACE_WORD || p->payload_length < HTTP2_PREFACE_BYTES ||
	    bpf_skb_load_bytes(p->skb, p->payload_offset + 8, rest, sizeof(rest)))
		return false;
	/* "TP/2.0\r\n" and "\r\nSM\r\n\r\n" */
	return rest[0] == 0x0a0d302e322f5054ULL && rest[1] == 0x0a0d0a0d4d530a0dULL;
}

/*
 * A packet of a socket that is not known to speak HTTP/2. Two packets in a row that begin with frames, or one in each
 * direction, make it known; what it said before is then missed.
 */
static __always_inline struct http2_conn *http2_join(struct packet *p, struct http2_conn *conn)
{
	if (!http2_fits(p->skb, p->payload_offset, p->payload_length)) {
		if (conn)
			http2_way_of(conn, p->ingress)->fits = 0;
		return NULL;
	}
	if (!conn)
		conn = bpf_sk_storage_get(&http2_conns, p->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn) {
		count(COUNT_HTTP2_FULL);
		return NULL;
	}
	if (!conn->way[0].fits && !conn->way[1].fits) {
		http2_way_of(conn, p->ingress)->fits = 1;
		return NULL;
	}
	conn->way[0].state = HTTP2_LOST;
	conn->way[1].state = HTTP2_LOST;
	http2_way_of(conn, p->ingress)->next = p->seq;
	http2_way_of(conn, !p->ingress)->next = p->ack_seq;
	return conn;
}

static __always_inline struct http2_conn *http2_begin(struct packet *p)
{
	struct http2_conn *conn;
	conn = bpf_sk_storage_get(&http2_conns, p->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn) {
		count(COUNT_HTTP2_FULL);
		return NULL;
	}
	conn->way[0].state = HTTP2_WAITING;
	conn->way[1].state = HTTP2_WAITING;
	http2_way_of(conn, p->ingress)->next = p->seq;
	http2_way_of(conn, !p->ingress)->next = p->ack_seq;
	conn->role_flags = p->ingress ? HTTP2_SERVER : HTTP2_CLIENT;
	return conn;
}

/* The state of a packet's connection; NULL: it does not speak HTTP/2, so far. `ahead`: bytes of the preface. */
static __always_inline struct http2_conn *http2_conn_of(struct packet *p, u32 *ahead)
{
	struct http2_conn *conn = bpf_sk_storage_get(&http2_conns, p->sk, NULL, 0);
	u64 word = 0;

	if (conn && conn->way[0].state != HTTP2_UNKNOWN)
		return conn;
	if (p->payload_length < HTTP2_HEAD_BYTES ||
	    bpf_skb_load_bytes(p->skb, p->payload_offset, &word, sizeof(word)))
		return NULL;
	if (http2_is_preface(p, word)) {
		*ahead = HTTP2_PREFACE_BYTES;
		return http2_begin(p);
	}
	if (word & 0xff || (word >> 24 & 0xff) > HTTP2_CONTINUATION)
		return NULL; /* no frame of less than 64 KB */
	return http2_join(p, conn);
}

static __noinline int http2_packet(struct packet *p)
{
	struct http2_conn *conn;
	struct http2_way *way;
	u32 ahead = 0, flags = 0, seq;
	bool fresh;
	s32 known;

	if (!p || !p->sk)
		return 0;
	conn = http2_conn_of(p, &ahead);
	if (!conn)
		return 0;
	way = http2_way_of(conn, p->ingress);
	if (p->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST) && !way->ended) {
		flags = p->tcp_flags & TCP_FLAG_RST ? HTTP2_RESET : HTTP2_END;
		way->ended = 1;
	}
	known = way->next - p->seq; /* bytes that were sent before, or less than none: a hole */
	if (way->state != HTTP2_WAITING && known > 0)
		ahead = known;
	fresh = way->state == HTTP2_WAITING || ahead < p->payload_length;
	if (!fresh) {
		if (!flags)
			return 0;
		ahead = p->payload_length;
	}
	seq = p->seq + ahead;
	if (way->state == HTTP2_FOLLOWED && known < 0)
		http2_hole(way, -known);
	if (way->state != HTTP2_FOLLOWED) {
		if (http2_may_start(p, way, ahead))
			flags |= http2_start(way, seq);
		else
			ahead = p->payload_length;
	}
	if (fresh)
		way->next = p->seq + p->payload_length;
	if (way->state == HTTP2_FOLLOWED || flags)
		http2_follow(p, conn, way, ahead, flags);
	return 0;
}

static __always_inline void http2_on_packet(struct packet *packet)
{
	if (packet->protocol == IPPROTO_TCP && packet->sk && packet->sk->state != TCP_LISTEN)
		http2_packet(packet);
}

#endif
