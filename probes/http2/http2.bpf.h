/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/2 in clear text, from the packets of each socket: skb_in and skb_out call http2_on_packet. A connection is known by
 * its preface, or later by frames that fit into each other; its frames are then followed by sequence number in each direction.
 * To the ring go the heads of frames and what stands in HEADERS and the like; of DATA the head alone, which has its length.
 */
#ifndef SONDE_HTTP2_H
#define SONDE_HTTP2_H

#include "find.bpf.h"

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
 * packets begin with frames. Nothing but the first byte is a begin.
 */
static __always_inline bool http2_may_start(struct packet *p, struct http2_way *way, u32 ahead)
{
	u32 at = p->payload_offset + ahead;
	u8 first = 0xff;

	if (way->state == HTTP2_WAITING) {
		if (ahead == HTTP2_PREFACE_BYTES)
			return true;
		if (way->next != p->seq + ahead)
			return false;
		if (ahead < p->payload_length && !bpf_skb_load_bytes(p->skb, at, &first, 1) &&
		    !first)
			return true; /* a first frame is short; an answer of HTTP/1 begins with a letter */
	}
	return http2_fits(p->skb, at, p->payload_length - ahead);
}

static __always_inline void http2_begin_record(struct packet *p, struct http2_talk *talk,
					       struct http2_work *work, u32 flags)
{
	struct http2_record *rec = &work->rec;
	struct http2_way *way = &work->way;

	rec->head.kind = RECORD_HTTP2;
	rec->head.flags = flags | talk->role_flags | (p->ingress ? 0 : HTTP2_EGRESS);
	if (p->sk->state == TCP_LISTEN)
		rec->head.flags |= HTTP2_PARKED;
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
static __always_inline void http2_follow(struct packet *p, struct http2_talk *talk,
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
	http2_begin_record(p, talk, work, flags);
	http2_all_steps(p->skb, slot);
	work->rec.head.flags |= flags & (HTTP2_END | HTTP2_RESET); /* of the last record, if there are several */
	http2_put_back(work, way);
}

/* Part of a packet as it is; the decoder puts it in its place. */
static __always_inline void http2_raw(struct packet *p, struct http2_talk *talk,
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
	http2_begin_record(p, talk, work, HTTP2_RAW | HTTP2_HOLE);
	http2_raw_steps(p->skb, slot);
	work->busy = 0;
}

/* Tells where this direction is, since what comes next does not follow. */
static __always_inline void http2_tell(struct packet *p, struct http2_talk *talk,
				       struct http2_way *way)
{
	struct http2_work *work;
	u32 slot;

	work = http2_take_work(&slot);
	if (!work)
		return;
	work->way = *way;
	work->seq = way->next;
	http2_begin_record(p, talk, work, 0);
	http2_flush(work);
	way->told = way->next;
	work->busy = 0;
}

/*
 * Bytes before `seq` are missing: lost, or on their way, since a thread that sends over loopback may change its CPU, and
 * networks reorder. Where they are of those that are not sent, that is no harm. Else all is sent until packets begin with
 * frames again, and the decoder puts it in order.
 */
static __always_inline void http2_hole(struct packet *p, struct http2_talk *talk,
				       struct http2_way *way, u32 seq)
{
	u32 bytes = seq - way->next;

	if (way->state == HTTP2_FOLLOWED) {
		if (!way->want && !way->have && bytes <= way->skip) {
			way->skip -= bytes;
			return;
		}
		http2_tell(p, talk, way);
		way->raw_left = HTTP2_RAW_MAX;
	}
	if (way->hole_from == way->hole_to)
		way->hole_from = way->next;
	way->hole_to = seq;
	way->state = HTTP2_SORTING;
}

/* A packet, or its first `length` bytes, that may be what a hole waits for. */
static __always_inline void http2_late(struct packet *p, struct http2_talk *talk,
				       struct http2_way *way, u32 length)
{
	u32 end = p->seq + length;

	if ((s32)(way->hole_to - p->seq) <= 0 || (s32)(end - way->hole_from) <= 0)
		return; /* known: sent again */
	http2_raw(p, talk, way, 0, length);
	if ((s32)(p->seq - way->hole_from) <= 0)
		way->hole_from = end;
	if ((s32)(way->hole_to - way->hole_from) <= 0)
		way->hole_from = way->hole_to;
}

/* What cannot be followed yet, behind `ahead` bytes, because of a hole or since the first byte is still to come. */
static __always_inline void http2_sort(struct packet *p, struct http2_talk *talk,
				       struct http2_way *way, u32 ahead)
{
	u32 length = p->payload_length - ahead;

	if (length > way->raw_left) {
		way->state = HTTP2_LOST;
		way->hole_to = way->hole_from;
		count(COUNT_HTTP2_LOST);
		return;
	}
	way->raw_left -= length;
	http2_raw(p, talk, way, ahead, length);
}

/* A packet of a known connection, in the hands of this program alone. */
static __always_inline int http2_new_packet(struct packet *p, struct http2_talk *talk, u32 ahead)
{
	struct http2_way *way;
	bool fresh, early;
	u32 flags = 0, seq;
	s32 known;

	way = http2_way_of(talk, p->ingress);
	if (p->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST) && !way->ended) {
		flags = p->tcp_flags & TCP_FLAG_RST ? HTTP2_RESET : HTTP2_END;
		way->ended = 1;
	}
	known = way->next - p->seq; /* bytes that were sent before, or less than none: a hole */
	early = way->state == HTTP2_WAITING && known < 0;
	if (known > 0) {
		ahead = known;
		if (way->hole_from != way->hole_to)
			http2_late(p, talk, way,
				   ahead < p->payload_length ? ahead : p->payload_length);
	}
	fresh = ahead < p->payload_length || (way->state == HTTP2_WAITING && !known);
	if (!fresh) {
		if (!flags)
			return 0;
		ahead = p->payload_length;
	}
	seq = p->seq + ahead;
	if ((way->state == HTTP2_FOLLOWED || way->state == HTTP2_SORTING) && known < 0)
		http2_hole(p, talk, way, seq);
	if (way->state != HTTP2_FOLLOWED) {
		if (http2_may_start(p, way, ahead))
			flags |= http2_start(way, seq);
		else {
			if (way->state == HTTP2_SORTING || early)
				http2_sort(p, talk, way, ahead);
			ahead = p->payload_length;
		}
	}
	if (fresh && !early)
		way->next = p->seq + p->payload_length;
	if (way->state == HTTP2_FOLLOWED || flags)
		http2_follow(p, talk, way, ahead, flags);
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
static __always_inline void http2_aside(struct packet *p, struct http2_talk *talk)
{
	if (p->payload_length)
		http2_raw(p, talk, http2_way_of(talk, p->ingress), 0, p->payload_length);
}

static __noinline int http2_packet(struct packet *p)
{
	struct http2_conn *conn = NULL;
	struct http2_talk *talk;
	u32 ahead = 0, i;

	if (!p || !p->sk)
		return 0;
	i = p->ingress;
	asm volatile("" : "+r"(i)); /* the verifier believes a mask, not a bool */
	if (p->sk->state == TCP_LISTEN) {
		talk = http2_park(p, &ahead);
		if (!talk)
			return 0;
	} else {
		conn = http2_conn_of(p, &ahead);
		if (!conn)
			return 0;
		talk = &conn->talk;
		if (!http2_claim(conn, i)) {
			http2_aside(p, talk);
			return 0;
		}
	}
	http2_new_packet(p, talk, ahead);
	if (conn)
		conn->taken[i & 1] = 0;
	return 0;
}

static __always_inline void http2_on_packet(struct packet *packet)
{
	if (packet->protocol == IPPROTO_TCP && packet->sk &&
	    (packet->sk->state != TCP_LISTEN || packet->payload_length))
		http2_packet(packet);
}

#endif
