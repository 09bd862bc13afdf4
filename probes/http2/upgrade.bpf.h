/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * h2c by Upgrade (RFC 7540, 3.2): the first request is one of HTTP/1, which the `http` source has noted, and its answer is
 * stream 1 behind the head of a 101. With that head the request goes over from there to here, where it ends.
 */
#ifndef SONDE_HTTP2_UPGRADE_H
#define SONDE_HTTP2_UPGRADE_H

#include "../http/http.bpf.h"
#include "http2.bpf.h"

#define HTTP2_UPGRADE_BYTES 16 /* a line feed, the header, and behind it the rest of an empty line or another header */
#define HTTP2_UPGRADE_SCAN 512 /* bytes of the head that are looked through; they are looked at once a connection */

/* Among these headers is "Upgrade: h2c". A global function, as those of work.bpf.h. */
__noinline int http2_names_h2c(struct __sk_buff *skb, u32 at, u32 length)
{
	for (u32 from = 0; from < HTTP2_UPGRADE_SCAN; from++) {
		u64 words[HTTP2_UPGRADE_BYTES / 8] = {}, value;

		if (from + HTTP2_UPGRADE_BYTES > length ||
		    bpf_skb_load_bytes(skb, at + from, words, sizeof(words)))
			return 0;
		/* "\nupgrade" in either case, so that the line feed is 0x2a; then ":h2c\r", with a blank or without */
		if ((words[0] | LANES(0x20)) != 0x656461726770752aULL)
			continue;
		value = words[1] | LANES(0x20);
		if ((value & 0xffffffffffffULL) == 0x2d633268203aULL ||
		    (value & 0xffffffffffULL) == 0x2d6332683aULL)
			return 1;
	}
	return 0;
}

/* Length of the head of a 101 to h2c that this packet begins with; 0: it does not. */
static __noinline int http2_upgrade_head(struct packet *p)
{
	u64 line[2] = {};
	int head;

	if (p->payload_length < STATUS_BYTES ||
	    bpf_skb_load_bytes(p->skb, p->payload_offset, line, STATUS_BYTES) ||
	    http_status(line) != 101)
		return 0;
	head = -http_extent(p->skb, p->payload_offset, p->payload_length, true);
	return head > 0 && http2_names_h2c(p->skb, p->payload_offset, head) ? head : 0;
}

/* Its request is the one that was answered last, alone, and not told yet: after this the `http` source does not tell it. */
static __always_inline bool http2_upgrade_claim(struct http_conn *c)
{
	u64 message = *(volatile u64 *)&c->message;

	return c->off && c->status == 101 && PHASE(message) == HTTP_RESPONSE && !c->queued &&
	       !c->queued_other && !c->request_parts && !(c->rec.head.flags & HTTP_MIXED) &&
	       http_swap(&c->message, message, message & ~3ULL);
}

/* The request's record: its line, its bytes from `after` to `to`, and when it began. False: the ring is full. */
static __noinline int http2_upgrade_tell(struct packet *p, struct http_conn *c,
					 struct http2_talk *talk)
{
	struct http2_work *work;
	u32 slot, n;
	bool told;

	work = http2_take_work(&slot);
	if (!work)
		return 0;
	work->way = *http2_way_of(talk, p->ingress);
	work->seq = c->request_from;
	http2_begin_record(p, talk, work, HTTP2_UPGRADE);
	work->rec.now_ns = c->request_ns;
	work->rec.after = c->request_from;
	work->rec.to = c->request_end;
	work->rec.skip = 0;
	n = c->rec.line_bytes;
	CLAMP(n, HTTP_LINE);
	bpf_probe_read_kernel(work->data, n, c->rec.line);
	work->rec.length = n;
	told = ring_output(&work->rec, sizeof(work->rec) + n);
	work->busy = 0;
	return told;
}

/* Both directions begin: the server's behind the head, the client's with its preface. */
static __noinline int http2_upgrade_begin(struct packet *p, struct http_conn *c,
					  struct http2_talk *talk, u32 head)
{
	struct http2_talk blank = {};

	*talk = blank;
	talk->role_flags = p->ingress ? HTTP2_CLIENT : HTTP2_SERVER;
	for (u32 i = 0; i < 2; i++) {
		talk->way[i].state = HTTP2_WAITING;
		talk->way[i].raw_left = HTTP2_RAW_MAX;
	}
	http2_way_of(talk, p->ingress)->next = p->seq + head;
	http2_way_of(talk, !p->ingress)->next = c->request_end;
	http2_way_of(talk, !p->ingress)->upgrades = 1;
	return 0;
}

/* Behind http_on_packet, which has read this head as a response, and before http2_on_packet, which reads on. */
static __always_inline void http2_upgrade_on_packet(struct packet *p)
{
	struct http2_conn *conn;
	struct http_conn *c;
	int head;

	if (p->protocol != IPPROTO_TCP || !p->sk || p->sk->state == TCP_LISTEN)
		return;
	head = http2_upgrade_head(p);
	if (!head)
		return;
	c = http_find_again(p);
	if (!c || p->ingress == (c->rec.role == ROLE_INCOMING))
		return;
	conn = http2_new_conn(p);
	if (!conn || !http2_upgrade_claim(c))
		return;
	http2_upgrade_begin(p, c, &conn->talk, head);
	if (http2_upgrade_tell(p, c, &conn->talk))
		return;
	bpf_sk_storage_delete(&http2_conns, p->sk);
	c->message |= HTTP_RESPONSE; /* given back: nobody else claims what is done and has no mark */
}

#endif
