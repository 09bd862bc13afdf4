/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/1.0 and 1.1 in clear text, from the packets of each socket: skb_in and skb_out call http_quick (quick.bpf.h), and
 * http_on_packet for what that leaves. What is said in them is read by message.bpf.h.
 */
#ifndef SONDE_HTTP_H
#define SONDE_HTTP_H

#include "entry.bpf.h"
#include "message.bpf.h"
#include "quick.bpf.h"

/* Of the first byte of the payload, which a SYN may stand before (TCP Fast Open). */
static __always_inline u32 http_seq(struct packet *p)
{
	return p->seq + (p->tcp_flags / TCP_FLAG_SYN & 1);
}

/* ---- the begin and the end of a connection ---- */

static __always_inline struct http_conn *http_new_conn(struct packet *p, bool serves)
{
	u64 sk = full_sock_of(p);
	struct http_conn *c = http_blank_for(sk, http_slot_of_packet(p->sk), &sk);
	struct conn_ends ends;

	if (!c)
		return NULL;
	barrier(); /* the sweep looks at the cookie first */
	c->cookie = bpf_get_socket_cookie(p->skb);
	conn_ends_of_sock(sk, &ends);
	c->rec.family = ends.family;
	c->rec.head.kind = RECORD_HTTP;
	c->rec.role = serves ? ROLE_INCOMING : ROLE_OUTGOING;
	c->rec.netns = ends.netns;
	c->rec.local_port = p->local_port;
	c->rec.peer_port = p->peer_port;
	__builtin_memcpy(c->rec.local_addr, ends.local_addr, 16);
	__builtin_memcpy(c->rec.peer_addr, ends.peer_addr, 16);
	return c;
}

/* On a listening socket: kept until the connection's own socket answers. */
static __noinline int http_park(struct packet *p, u32 n, int length)
{
	struct http_parked parked = {};
	struct conn_ends ends;

	conn_ends_of_packet(p, &ends);
	parked.request_ns = bpf_ktime_get_ns();
	parked.seq = http_seq(p);
	parked.length = p->payload_length;
	parked.line_bytes = n;
	CLAMP(n, HTTP_LINE);
	bpf_skb_load_bytes(p->skb, p->payload_offset, parked.line, n);
	parked.message_length = length < 0 ? -length : length & ~EXPECTS;
	if (length < -CHUNKED)
		parked.message_length = 0;
	bpf_map_update_elem(&http_parked, &ends, &parked, BPF_ANY);
	return 0;
}

/* `response`: where the response begins. */
static __always_inline void http_unpark(struct http_conn *c, struct http_parked *parked,
					u32 response)
{
	u64 *line = (u64 *)c->rec.line;

	c->message = ((c->message >> 2) + 1) << 2 | HTTP_REQUEST;
	c->request_ns = parked->request_ns;
	c->request_from = parked->seq;
	c->response_from = c->response_next = c->response_end = response;
	for (int i = 0; i < HTTP_LINE / 8; i++)
		line[i] = parked->line[i];
	c->rec.line_bytes = parked->line_bytes;
	c->request_end = parked->seq + parked->length;
	c->request_next = parked->seq + parked->message_length;
	c->request_known = parked->message_length != 0;
}

/* No room for another connection: its requests are counted by their begins, as far as they show. */
static __always_inline void http_no_room(bool serves)
{
	struct http_rest *rest = http_rest_of(serves ? ROLE_INCOMING : ROLE_OUTGOING, 0);

	count(COUNT_HTTP_CONN_FULL);
	if (rest)
		__sync_fetch_and_add(&rest->requests, 1);
}

/* A response on a socket without state: its request may have come on the listening socket. */
static __noinline int http_adopt(struct packet *p)
{
	struct http_parked *parked;
	struct conn_ends ends;
	struct http_conn *c;

	conn_ends_of_connected(p, &ends);
	parked = bpf_map_lookup_elem(&http_parked, &ends);
	if (!parked)
		return 0;
	c = http_new_conn(p, true);
	if (c) {
		http_unpark(c, parked, p->seq);
		if (AFTER(p->ack_seq, c->request_end))
			c->request_end = p->ack_seq; /* a body that came meanwhile */
	} else {
		http_no_room(true);
	}
	bpf_map_delete_elem(&http_parked, &ends);
	return c != NULL;
}

/*
 * The common first packet of a connection: one whole request and nothing else. `n`: bytes of its line. False: nothing is
 * settled yet. Nobody claims anything of an entry that has had no message.
 */
static __always_inline bool http_first_whole(struct http_conn *c, struct packet *p, u32 n)
{
	int length;

	CLAMP(n, HTTP_LINE);
	if (bpf_skb_load_bytes(p->skb, p->payload_offset, c->rec.line, n))
		return false;
	length = http_extent(p->skb, p->payload_offset, p->payload_length, false);
	if (length < 0)
		length = -length;
	if (length != (int)p->payload_length) /* nor is there one with EXPECTS */
		return false;
	c->rec.line_bytes = n;
	c->whole_length = length;
	c->request_ns = http_now(p->skb, p->ingress);
	c->request_from = http_seq(p);
	c->request_next = c->request_end = c->request_from + length;
	c->response_from = c->response_next = p->ack_seq;
	barrier(); /* the sweep looks at the phase first */
	c->message = ((c->message >> 2) + 1) << 2 | HTTP_REQUEST;
	return true;
}

/* A packet of a socket without state. True: it has one now, and http_packet is to look at what begins or waited here. */
static __noinline int http_first(struct packet *p)
{
	struct http_conn *c;
	u32 word = 0x41414100, skip, at = p->payload_offset, left = p->payload_length;
	u32 state;
	int n;

	if (!p->sk)
		return 0;
	state = p->sk->state;
	if (left < 4 ? bpf_skb_load_bytes(p->skb, at, &word, 1) :
		       bpf_skb_load_bytes(p->skb, at, &word, 4))
		return 0;
	/* 2 for an empty line before the first request; without a branch, for each doubles what the verifier walks through */
	skip = (((word & 0xffff) ^ 0x0a0d) - 1) >> 31 << 1;
	asm volatile("" : "+r"(skip));
	word >>= skip * 8;
	if ((word & 0xff) - 'A' > 'Z' - 'A')
		return 0; /* no capital letter: all but text goes here */
	if (word == WORD_HTTP)
		return p->ingress || state == TCP_LISTEN ? 0 : http_adopt(p);
	n = http_line(p->skb, at + skip, left - skip);
	if (n == 0 || (n == HTTP_LINE && !http_long_line(p->skb, at + skip, left - skip)))
		return 0;
	if (state == TCP_LISTEN) {
		int length = http_extent(p->skb, at, left, false);

		if (n > 0 && !skip && p->ingress)
			http_park(p, n, length);
		return 0;
	}
	c = http_new_conn(p, p->ingress);
	if (!c) {
		http_no_room(p->ingress);
		return 0;
	}
	c->request_end = c->request_next = http_seq(p);
	c->request_known = true;
	c->response_from = c->response_next = c->response_end = p->ack_seq;
	c->response_unset = !(p->tcp_flags & TCP_FLAG_ACK); /* sent with the SYN (TCP Fast Open) */
	return !(n > 0 && !skip && http_first_whole(c, p, n));
}

/* The entry of the packet's socket. One of a former socket at this address, whose end nobody saw, is ended here. */
static __always_inline struct http_conn *http_find(struct packet *p)
{
	struct bpf_sock *key = p->sk; /* its address, by which all hooks find it */
	struct http_conn *c = HTTP_ENTRY(key, http_slot_of_packet(key), &key);

	if (!c || c->life != HTTP_LIVE)
		return NULL;
	if (c->rec.local_port == p->local_port && c->rec.peer_port == p->peer_port)
		return c;
	http_end(c);
	http_retire(c, &key);
	return NULL;
}

static __always_inline void http_packet_bytes(struct packet *p, struct http_bytes *from)
{
	from->at = p->payload_offset;
	from->length = p->payload_length;
	from->seq = http_seq(p);
	from->now = http_now(p->skb, p->ingress);
}

/* 0: the packet's connection is not known. Else its first message is noted, and this is where the others begin; 1: nowhere. */
static __noinline int http_packet(struct packet *p)
{
	struct http_conn *c = http_find(p);
	struct http_bytes from = {};
	u32 rest;

	if (!c || c->off)
		return c != NULL;
	http_packet_bytes(p, &from);
	rest = p->ingress == (c->rec.role == ROLE_INCOMING) ?
		       http_on_request(p->skb, c, &from, false) :
		       http_on_response(p->skb, c, &from, false);
	return rest ? rest : 1;
}

/* With a stack of its own. */
static __noinline struct http_conn *http_find_again(struct packet *p)
{
	return http_find(p);
}

/* The other messages of a packet that has several. */
static __noinline int http_packet_rest(struct packet *p, u32 rest)
{
	struct http_conn *c = http_find_again(p);
	struct http_bytes from = {};

	if (!c)
		return 0;
	http_packet_bytes(p, &from);
	return p->ingress == (c->rec.role == ROLE_INCOMING) ?
		       http_requests(p->skb, c, &from, rest) :
		       http_responses(p->skb, c, &from, rest);
}

/*
 * A packet that http_quick has left. The steps are called one after the other and not one by the other, since kernels before
 * 6.13 count the frames of all that is called against 512 bytes.
 */
static __always_inline void http_on_packet(struct packet *p, enum http_look look)
{
	int rest = 0;

	if (p->protocol != IPPROTO_TCP || !p->payload_length || !p->sk)
		return;
	if (look == HTTP_GENERAL)
		rest = http_packet(p);
	if (!rest && http_first(p))
		rest = http_packet(p);
	if (rest > 1)
		http_packet_rest(p, rest);
}

/* TCP_CLOSE, before the connection's entry in `tcp_conns` goes: it knows the owner. */
static __always_inline void http_on_close(struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct http_conn *c;
	u64 key = (u64)sk;
	u32 slot;

	if (!tp)
		return;
	/* skc_num is 0 by now */
	slot = http_slot_of(bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport),
			    bpf_ntohs(sk->__sk_common.skc_dport));
	c = HTTP_ENTRY(key, slot, &key);
	if (!c || c->life != HTTP_LIVE)
		return;
	http_end(c);
	http_retire(c, &key);
}

/* ---- the sweep ---- */

/* Entries of the run that were not reported: copied first, claimed last. */
static __always_inline void http_sweep_run(struct http_conn *c)
{
	u64 old = *(volatile u64 *)&c->claimed;
	u32 entries = *(volatile u32 *)&c->entries;
	struct http_record *rec;

	if (entries <= (u32)old || entries > HTTP_RUN)
		return;
	rec = bpf_ringbuf_reserve(&sonde_ring, sizeof(*rec), 0);
	if (!rec)
		return; /* they stay for the next time */
	bpf_probe_read_kernel(rec, sizeof(*rec), &c->rec);
	rec->first = (u32)old;
	rec->entries = entries;
	http_owner(c, &rec->owner);
	if (!http_swap(&c->claimed, old, (old >> 32) << 32 | entries)) {
		bpf_ringbuf_discard(rec, BPF_RB_NO_WAKEUP);
		return;
	}
	count(COUNT_RECORDS);
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
}

#define HTTP_ONE (__builtin_offsetof(struct http_record, entry) + sizeof(struct http_entry))

/* A message that has its response; or what came of it since it was taken so. */
static __always_inline void http_sweep_message(struct http_conn *c)
{
	u64 old = *(volatile u64 *)&c->message, now = old & ~3ULL;
	struct http_entry entry = {};
	struct http_record *rec;
	struct http_mark mark;

	if (PHASE(old) == HTTP_REQUEST || !(old >> 2))
		return; /* it waits, or there was none yet */
	if (PHASE(old) == HTTP_DONE)
		now += 4; /* the mark of this number is not the one that the producer reads meanwhile */
	mark.message = now >> 2;
	mark.ns = c->last_ns;
	mark.request = c->request_end;
	mark.response = c->response_end;
	if (!http_measure(c, old, mark.request, mark.response, &entry))
		return;
	rec = bpf_ringbuf_reserve(&sonde_ring, HTTP_ONE, 0);
	if (!rec)
		return;
	bpf_probe_read_kernel(rec, HTTP_ONE - sizeof(entry), &c->rec);
	rec->status = c->status;
	rec->first = 0;
	rec->entries = 1;
	rec->entry[0] = entry;
	http_owner(c, &rec->owner);
	c->mark[mark.message & 1] = mark;
	if (!http_swap(&c->message, old, now)) {
		bpf_ringbuf_discard(rec, BPF_RB_NO_WAKEUP);
		return;
	}
	count(COUNT_RECORDS);
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
}

static __always_inline void http_sweep_live(struct http_conn *c)
{
	http_sweep_run(c);
	http_sweep_message(c);
}

SEC("iter/bpf_map_elem")
int http_sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	u64 *key_now = ctx->key;
	struct http_conn *c;
	u64 key;

	if (!key_now)
		return 0; /* the end of the pass */
	key = *key_now;
	c = bpf_map_lookup_elem(&http_conns, &key);
	if (!c || ring_nearly_full())
		return 0;
	if (c->life != HTTP_LIVE) {
		http_sweep_spare(c, &key);
	} else if (http_is_gone(c)) {
		http_end(c);
		bpf_map_delete_elem(&http_conns, &key);
	} else {
		http_sweep_live(c);
	}
	return 0;
}

SEC("iter/bpf_map_elem")
int http_slot_sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	u32 *slot_now = ctx->key;
	struct http_conn *c;
	u32 slot;

	if (!slot_now)
		return 0;
	slot = *slot_now;
	c = bpf_map_lookup_elem(&http_slots, &slot);
	if (!c || !c->sk || c->life != HTTP_LIVE || ring_nearly_full())
		return 0;
	if (http_is_gone(c)) {
		http_end(c);
		http_turn(c, HTTP_LIVE, HTTP_SPARE);
	} else {
		http_sweep_live(c);
	}
	return 0;
}

/* Sends the totals of what found no room, once there is room again. */
SEC("iter/bpf_map_elem")
int http_rest_sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	u32 *slot_now = ctx->key;
	struct http_rest_record rec = {};
	struct http_rest *sum;
	u32 slot;

	if (!slot_now || ring_nearly_full())
		return 0;
	slot = *slot_now;
	sum = bpf_map_lookup_elem(&http_rests, &slot);
	if (!sum)
		return 0;
	rec.head.kind = RECORD_HTTP;
	rec.head.flags = HTTP_OVERFLOW;
	rec.role = slot / HTTP_CLASSES;
	rec.status_class = slot % HTTP_CLASSES;
	rec.rest.requests = OVERFLOW_TAKE(sum, requests);
	rec.rest.answered = OVERFLOW_TAKE(sum, answered);
	rec.rest.ttfb_ns = OVERFLOW_TAKE(sum, ttfb_ns);
	rec.rest.duration_ns = OVERFLOW_TAKE(sum, duration_ns);
	rec.rest.bytes_request = OVERFLOW_TAKE(sum, bytes_request);
	rec.rest.bytes_response = OVERFLOW_TAKE(sum, bytes_response);
	if (!rec.rest.requests && !rec.rest.bytes_request && !rec.rest.bytes_response)
		return 0;
	if (ring_output(&rec, sizeof(rec)))
		return 0;
	http_rest_add(sum, &rec.rest);
	return 0;
}

#endif
