/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/2 in clear text, from the packets of each socket: skb_in and skb_out call http2_on_packet. A connection is known by
 * its preface, or later by frames that fit into each other; its frames are then followed by sequence number in each direction.
 * To the ring go the heads of frames and what stands in HEADERS and the like; of DATA the head alone, which has its length.
 */
#ifndef SONDE_HTTP2_H
#define SONDE_HTTP2_H

#include "work.bpf.h"

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
	rec->after = way->state == HTTP2_FOLLOWED ? way->told : work->seq;
	rec->length = 0;
	if (way->hole_from != way->hole_to)
		rec->head.flags |= HTTP2_HOLE;
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
	http2_steps(p->skb, slot);
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

/* Part of a packet as it is; the decoder puts it in its place. */
static __always_inline void http2_raw(struct packet *p, struct http2_conn *conn,
				      struct http2_way *way, u32 ahead, u32 length)
{
	struct http2_work *work;
	u32 slot;

	work = http2_take_work(&slot);
	if (!work) {
		count(COUNT_HTTP2_LOST);
		return;
	}
	work->way = *way;
	work->at = p->payload_offset + ahead;
	work->left = length;
	work->seq = p->seq + ahead;
	http2_begin_record(p, conn, work, HTTP2_RAW | HTTP2_HOLE);
	http2_raw_steps(p->skb, slot);
	work->busy = 0;
}

/* Tells where this direction is, since what comes next does not follow. */
static __always_inline void http2_tell(struct packet *p, struct http2_conn *conn,
				       struct http2_way *way)
{
	struct http2_work *work;
	u32 slot;

	work = http2_take_work(&slot);
	if (!work)
		return;
	work->way = *way;
	work->seq = way->next;
	http2_begin_record(p, conn, work, 0);
	http2_flush(work);
	way->told = way->next;
	work->busy = 0;
}

/*
 * Bytes before `seq` are missing: lost, or on their way, since a thread that sends over loopback may change its CPU, and
 * networks reorder. Where they are of those that are not sent, that is no harm. Else all is sent until packets begin with
 * frames again, and the decoder puts it in order.
 */
static __always_inline void http2_hole(struct packet *p, struct http2_conn *conn,
				       struct http2_way *way, u32 seq)
{
	u32 bytes = seq - way->next;

	if (way->state == HTTP2_FOLLOWED) {
		if (!way->want && !way->have && bytes <= way->skip) {
			way->skip -= bytes;
			return;
		}
		http2_tell(p, conn, way);
		way->raw_left = HTTP2_RAW_MAX;
	}
	if (way->hole_from == way->hole_to)
		way->hole_from = way->next;
	way->hole_to = seq;
	way->state = HTTP2_SORTING;
}

/* A packet, or its first `length` bytes, that may be what a hole waits for. */
static __always_inline void http2_late(struct packet *p, struct http2_conn *conn,
				       struct http2_way *way, u32 length)
{
	u32 end = p->seq + length;

	if ((s32)(way->hole_to - p->seq) <= 0 || (s32)(end - way->hole_from) <= 0)
		return; /* known: sent again */
	http2_raw(p, conn, way, 0, length);
	if ((s32)(p->seq - way->hole_from) <= 0)
		way->hole_from = end;
	if ((s32)(way->hole_to - way->hole_from) <= 0)
		way->hole_from = way->hole_to;
}

/* What cannot be followed yet, behind `ahead` bytes. */
static __always_inline void http2_sort(struct packet *p, struct http2_conn *conn,
				       struct http2_way *way, u32 ahead)
{
	u32 length = p->payload_length - ahead;

	if (way->state != HTTP2_SORTING)
		return;
	if (length > way->raw_left) {
		way->state = HTTP2_LOST;
		way->hole_to = way->hole_from;
		count(COUNT_HTTP2_LOST);
		return;
	}
	way->raw_left -= length;
	http2_raw(p, conn, way, ahead, length);
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

/* A packet of a known connection, in the hands of this program alone. */
static __always_inline int http2_new_packet(struct packet *p, struct http2_conn *conn, u32 ahead)
{
	struct http2_way *way;
	u32 flags = 0, seq;
	bool fresh;
	s32 known;

	way = http2_way_of(conn, p->ingress);
	if (p->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST) && !way->ended) {
		flags = p->tcp_flags & TCP_FLAG_RST ? HTTP2_RESET : HTTP2_END;
		way->ended = 1;
	}
	known = way->next - p->seq; /* bytes that were sent before, or less than none: a hole */
	if (way->state != HTTP2_WAITING && known > 0) {
		ahead = known;
		if (way->hole_from != way->hole_to)
			http2_late(p, conn, way,
				   ahead < p->payload_length ? ahead : p->payload_length);
	}
	fresh = way->state == HTTP2_WAITING || ahead < p->payload_length;
	if (!fresh) {
		if (!flags)
			return 0;
		ahead = p->payload_length;
	}
	seq = p->seq + ahead;
	if ((way->state == HTTP2_FOLLOWED || way->state == HTTP2_SORTING) && known < 0)
		http2_hole(p, conn, way, seq);
	if (way->state != HTTP2_FOLLOWED) {
		if (http2_may_start(p, way, ahead))
			flags |= http2_start(way, seq);
		else {
			http2_sort(p, conn, way, ahead);
			ahead = p->payload_length;
		}
	}
	if (fresh)
		way->next = p->seq + p->payload_length;
	if (way->state == HTTP2_FOLLOWED || flags)
		http2_follow(p, conn, way, ahead, flags);
	return 0;
}

/*
 * Two packets of one direction may be in work on two CPUs at once: a thread that sends over loopback has moved from one to the
 * other. The second waits: a microsecond or two, some tens where the first has 64 KB of small frames. Where that is in vain, a
 * virtual CPU being stopped or the first waiting for a peer of its own, http2_aside has it.
 */
static __always_inline bool http2_claim(struct http2_conn *conn, u32 i)
{
	for (int n = 0; n < HTTP2_SPINS; n++) {
		u32 taken;

		bpf_spin_lock(&conn->lock);
		taken = conn->taken[i & 1];
		conn->taken[i & 1] = 1;
		bpf_spin_unlock(&conn->lock);
		if (!taken)
			return true;
	}
	return false;
}

/*
 * A packet whose direction is in other hands: sent as it is, and the decoder puts it in its place. The next one finds a hole
 * where this one was, tells where the direction is, and goes on behind it. Reads of `way` what may change meanwhile, for
 * nothing that such a record needs.
 */
static __always_inline void http2_aside(struct packet *p, struct http2_conn *conn)
{
	if (p->payload_length)
		http2_raw(p, conn, http2_way_of(conn, p->ingress), 0, p->payload_length);
}

static __noinline int http2_packet(struct packet *p)
{
	struct http2_conn *conn;
	u32 ahead = 0, i;

	if (!p || !p->sk)
		return 0;
	conn = http2_conn_of(p, &ahead);
	if (!conn)
		return 0;
	i = p->ingress;
	asm volatile("" : "+r"(i)); /* the verifier believes a mask, not a bool */
	if (!http2_claim(conn, i)) {
		http2_aside(p, conn);
		return 0;
	}
	http2_new_packet(p, conn, ahead);
	conn->taken[i & 1] = 0;
	return 0;
}

static __always_inline void http2_on_packet(struct packet *packet)
{
	if (packet->protocol == IPPROTO_TCP && packet->sk && packet->sk->state != TCP_LISTEN)
		http2_packet(packet);
}

#endif
