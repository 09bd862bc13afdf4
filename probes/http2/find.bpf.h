/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which connection a packet belongs to: one that is known, one that begins here by its preface, one that began on the listening
 * socket, or an older one that is known by its frames.
 */
#ifndef SONDE_HTTP2_FIND_H
#define SONDE_HTTP2_FIND_H

#include "work.bpf.h"

#define HTTP2_EARLY_MAX (128 << 10) /* bytes that are sent as they are before it is known what they belong to */
#define HTTP2_PARKED_NS 1000000000ULL /* so long a packet that does not look like frames may go on with a parked one */

static __always_inline bool http2_is_preface(struct packet *p, u64 word)
{
	u64 rest[2] = {};

	if (word != HTTP2_PREFACE_WORD || p->payload_length < HTTP2_PREFACE_BYTES ||
	    bpf_skb_load_bytes(p->skb, p->payload_offset + 8, rest, sizeof(rest)))
		return false;
	/* "TP/2.0\r\n" and "\r\nSM\r\n\r\n" */
	return rest[0] == 0x0a0d302e322f5054ULL && rest[1] == 0x0a0d0a0d4d530a0dULL;
}

/* By this packet, which has the preface. The server may have sent SETTINGS already, which this end need not have taken yet. */
static __always_inline void http2_begin(struct packet *p, struct http2_talk *talk)
{
	struct http2_way *answer = http2_way_of(talk, !p->ingress);

	talk->way[0].state = HTTP2_WAITING;
	talk->way[1].state = HTTP2_WAITING;
	talk->way[0].raw_left = HTTP2_RAW_MAX;
	talk->way[1].raw_left = HTTP2_RAW_MAX;
	http2_way_of(talk, p->ingress)->next = p->seq;
	if (!answer->fits || (s32)(answer->next - p->ack_seq) < 0)
		answer->next = p->ack_seq;
	talk->role_flags = p->ingress ? HTTP2_SERVER : HTTP2_CLIENT;
}

static __always_inline struct http2_conn *http2_new_conn(struct packet *p)
{
	struct http2_conn *conn;

	conn = bpf_sk_storage_get(&http2_conns, p->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn)
		count(COUNT_HTTP2_FULL);
	return conn;
}

/* ---- on the listening socket ---- */

/* Where a packet is of a connection whose own socket is not made yet, and has begun with a preface. */
static __noinline struct http2_talk *http2_park(struct packet *p, u32 *ahead)
{
	struct http2_parking *parking;
	struct http2_talk *talk;
	struct conn_ends ends;
	u64 word = 0;
	u32 zero = 0;

	conn_ends_of_packet(p, &ends);
	talk = bpf_map_lookup_elem(&http2_parked, &ends);
	if (bpf_skb_load_bytes(p->skb, p->payload_offset, &word, sizeof(word)) ||
	    !http2_is_preface(p, word))
		return talk;
	*ahead = HTTP2_PREFACE_BYTES;
	if (talk && (u32)(http2_way_of(talk, true)->next - p->seq - 1) < HTTP2_RAW_MAX)
		return talk; /* sent again */
	parking = bpf_map_lookup_elem(&http2_parking, &zero);
	if (!parking)
		return NULL;
	parking->last_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&http2_parked, &ends, &parking->blank, BPF_ANY);
	talk = bpf_map_lookup_elem(&http2_parked, &ends);
	if (talk)
		http2_begin(p, talk);
	return talk;
}

static __always_inline bool http2_may_be_parked(bool looks_like_frames)
{
	u32 zero = 0;
	struct http2_parking *parking = bpf_map_lookup_elem(&http2_parking, &zero);

	if (!parking || !parking->last_ns)
		return false;
	return looks_like_frames || bpf_ktime_get_ns() - parking->last_ns < HTTP2_PARKED_NS;
}

/* The first data of a connection's own socket: what was parked of it is its own now. */
static __noinline struct http2_conn *http2_adopt(struct packet *p)
{
	struct http2_talk *parked;
	struct http2_conn *conn;
	struct conn_ends ends;

	conn_ends_of_connected(p, &ends);
	parked = bpf_map_lookup_elem(&http2_parked, &ends);
	if (!parked)
		return NULL;
	conn = http2_new_conn(p);
	if (conn) {
		conn->talk = *parked;
		conn->talk.role_flags |= HTTP2_ADOPTED;
	}
	bpf_map_delete_elem(&http2_parked, &ends);
	return conn;
}

/* ---- on the connection's own ---- */

/*
 * A packet of a socket that is not known to speak HTTP/2. Two packets in a row that begin with frames, or one in each
 * direction, make it known; what it said before is then missed.
 */
static __always_inline struct http2_conn *http2_join(struct packet *p, struct http2_conn *conn)
{
	struct http2_talk *talk;

	if (!http2_fits(p->skb, p->payload_offset, p->payload_length)) {
		if (conn)
			http2_way_of(&conn->talk, p->ingress)->fits = 0;
		return NULL;
	}
	if (!conn)
		conn = http2_new_conn(p);
	if (!conn)
		return NULL;
	talk = &conn->talk;
	if (!talk->way[0].fits && !talk->way[1].fits) {
		http2_way_of(talk, p->ingress)->fits = 1;
		http2_way_of(talk, p->ingress)->next = p->seq + p->payload_length;
		return NULL;
	}
	talk->way[0].state = HTTP2_LOST;
	talk->way[1].state = HTTP2_LOST;
	http2_way_of(talk, p->ingress)->next = p->seq;
	http2_way_of(talk, !p->ingress)->next = p->ack_seq;
	return conn;
}

/*
 * What comes before the first segment, which was lost: sent as it is, since the preface may be in that one. The decoder forgets
 * it unless the connection begins so. Such a state has no role yet.
 */
static __noinline struct http2_conn *http2_early(struct packet *p)
{
	struct bpf_tcp_sock *tcp;
	struct http2_conn *conn;

	if (!p->ingress)
		return NULL;
	tcp = bpf_tcp_sock(p->sk);
	if (!tcp || tcp->bytes_received || (s32)(p->seq - tcp->rcv_nxt) <= 0)
		return NULL;
	conn = http2_new_conn(p);
	if (!conn)
		return NULL;
	conn->talk.way[0].state = HTTP2_WAITING;
	conn->talk.way[0].next = tcp->rcv_nxt;
	conn->talk.way[0].raw_left = HTTP2_EARLY_MAX;
	return conn;
}

static __always_inline bool http2_is_early(struct http2_conn *conn)
{
	return conn->talk.way[0].state == HTTP2_WAITING && !conn->talk.role_flags;
}

/* The next packet of such a connection. */
static __noinline struct http2_conn *http2_early_goes_on(struct packet *p, struct http2_conn *conn,
							 u32 *ahead)
{
	u64 word = 0;

	if (!conn || !p->ingress || p->payload_length < HTTP2_HEAD_BYTES)
		return NULL;
	if (p->seq != conn->talk.way[0].next) {
		if (p->payload_length <= conn->talk.way[0].raw_left)
			return conn;
		bpf_sk_storage_delete(&http2_conns, p->sk); /* too much, of who knows what */
		return NULL;
	}
	if (!bpf_skb_load_bytes(p->skb, p->payload_offset, &word, sizeof(word)) &&
	    http2_is_preface(p, word)) {
		*ahead = HTTP2_PREFACE_BYTES;
		http2_begin(p, &conn->talk);
		return conn;
	}
	bpf_sk_storage_delete(&http2_conns, p->sk);
	return NULL;
}

/*
 * A packet of a client that asked by Upgrade: what comes before its preface, more of the request's body, is still of HTTP/1. Its
 * preface begins wherever it comes.
 */
static __always_inline bool http2_still_upgrades(struct packet *p, struct http2_conn *conn,
						 u32 *ahead)
{
	struct http2_way *way = http2_way_of(&conn->talk, p->ingress);
	u64 word = 0;

	if (!way->upgrades || way->state != HTTP2_WAITING || !p->payload_length)
		return false;
	if (p->payload_length < HTTP2_HEAD_BYTES ||
	    bpf_skb_load_bytes(p->skb, p->payload_offset, &word, sizeof(word)) ||
	    !http2_is_preface(p, word))
		return true;
	*ahead = HTTP2_PREFACE_BYTES;
	way->next = p->seq;
	return false;
}

/* The state of a packet's connection; NULL: it does not speak HTTP/2, so far. `ahead`: bytes of the preface. */
static __always_inline struct http2_conn *http2_conn_of(struct packet *p, u32 *ahead)
{
	struct http2_conn *conn = bpf_sk_storage_get(&http2_conns, p->sk, NULL, 0), *other;
	bool is_preface, looks_like_frames;
	u64 word = 0;

	if (conn && http2_is_early(conn))
		return http2_early_goes_on(p, conn, ahead);
	if (conn && conn->talk.way[0].state != HTTP2_UNKNOWN)
		return http2_still_upgrades(p, conn, ahead) ? NULL : conn;
	if (p->payload_length < HTTP2_HEAD_BYTES ||
	    bpf_skb_load_bytes(p->skb, p->payload_offset, &word, sizeof(word)))
		return NULL;
	is_preface = http2_is_preface(p, word);
	/* shorter than 64 KB, of a standard type */
	looks_like_frames = !(word & 0xff) && (word >> 24 & 0xff) <= HTTP2_CONTINUATION;
	if (http2_may_be_parked(is_preface || looks_like_frames)) {
		other = http2_adopt(p);
		if (other)
			return other;
	}
	if (is_preface) {
		*ahead = HTTP2_PREFACE_BYTES;
		conn = http2_new_conn(p);
		if (conn)
			http2_begin(p, &conn->talk);
		return conn;
	}
	other = http2_early(p);
	if (other)
		return other;
	return looks_like_frames ? http2_join(p, conn) : NULL;
}

#endif
