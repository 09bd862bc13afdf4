/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The common packet, from its headers to its connection's entry, inlined into skb_in and skb_out: on a processor that guards
 * its returns (Spectre) each call costs 5 to 10 ns, some five times the rest of a step. So nothing is called here but the
 * look-up, the clock and the bytes; what has options, pieces, or anything to decide is left to http_on_packet.
 */
#ifndef SONDE_HTTP_QUICK_H
#define SONDE_HTTP_QUICK_H

#include "entry.bpf.h"
#include "message.bpf.h"

#define QUICK_LINE 64 /* longer request lines take the general way */

enum http_look {
	HTTP_GENERAL, /* not looked at */
	HTTP_STRANGE, /* of a socket without an entry */
	HTTP_NOTED, /* done */
	HTTP_COMMON, /* done, and it is HTTP: others have nothing to learn of it */
	HTTP_BARE, /* nothing for who reads what programs say to each other, as packet_is_bare */
};

/* When TCP sent it, which it has noted (the monotonic clock); reading the clock costs as much as all the rest here. */
static __always_inline u64 http_now(struct __sk_buff *skb, bool ingress)
{
	u64 sent = ingress ? 0 : skb->tstamp;

	return sent ? sent : bpf_ktime_get_ns();
}

/*
 * One whole request in one segment, with the same line and length as the last one, which was answered. False: nothing was
 * done.
 */
static __always_inline bool http_quick_request(struct __sk_buff *skb, struct http_conn *c,
					       struct http_bytes *from)
{
	u64 *line = (u64 *)c->rec.line, message = c->message;
	u64 ttfb = c->response_ns - c->request_ns, duration = c->last_ns - c->request_ns;
	u32 n = c->entries, size = c->rec.line_bytes;
	u64 words[QUICK_LINE / 8] = {};
	struct http_entry *entry;

	if (from->length != c->whole_length || from->seq != c->request_next ||
	    !c->request_known || PHASE(message) != HTTP_RESPONSE || c->queued || c->queued_other ||
	    c->pieces || n >= HTTP_RUN || (n && c->rec.status != c->status) ||
	    duration >= HTTP_COARSE || ttfb > duration || size - 1 >= QUICK_LINE)
		return false;
	CLAMP(size, QUICK_LINE);
	if (bpf_skb_load_bytes(skb, from->at, words, size))
		return false;
	for (u32 i = 0; i < QUICK_LINE / 8; i++)
		if (words[i] != line[i])
			return false;
	asm volatile("" : "+r"(n));
	if (n >= HTTP_RUN)
		return false; /* cannot be; kernels before 6.3 have lost sight of it by now */
	if (!http_swap(&c->message, message, ((message >> 2) + 1) << 2 | HTTP_REQUEST))
		return false;
	c->rec.status = c->status;
	entry = &c->rec.entry[n];
	entry->ttfb = ttfb;
	entry->duration = duration;
	entry->bytes_request = from->seq - c->request_from;
	entry->bytes_response = c->response_end - c->response_from;
	barrier(); /* the sweep looks at the number first */
	c->entries = n + 1;
	c->request_ns = from->now;
	c->request_from = from->seq;
	c->request_next = c->request_end = from->seq + from->length;
	c->response_from = c->response_next = c->response_end;
	c->response_loose = false;
	c->status_pieces = 0;
	return true;
}

/* The same of a response: its begin in a segment of its own, or more of it. */
static __always_inline bool http_quick_response(struct __sk_buff *skb, struct http_conn *c,
						struct http_bytes *from)
{
	u32 end = from->seq + from->length;
	u64 line[2] = {};
	u16 status;

	if (c->queued || c->queued_other || c->status_pieces)
		return false;
	if (PHASE(c->message) == HTTP_REQUEST) {
		if (c->response_loose || from->seq != c->response_next ||
		    from->length < STATUS_BYTES ||
		    bpf_skb_load_bytes(skb, from->at, line, STATUS_BYTES))
			return false;
		status = http_status(line);
		if (status < 200)
			return false;
		http_answered(c, from->seq, status, from->now);
	} else if (end - c->response_from >= PARTIAL_BYTES) {
		return false;
	}
	if (AFTER(end, c->response_end)) {
		c->response_end = end;
		c->last_ns = from->now;
	}
	return true;
}

/* Offset of the header of TCP behind one of IPv4 or IPv6 that has nothing beside it; 0: there is more, or less. */
static __always_inline u32 quick_tcp(struct __sk_buff *skb, void *data, void *end)
{
	struct ipv6_header *ip6 = data;
	struct ipv4_header *ip = data;

	if (skb->protocol == bpf_htons(PACKET_IPV4)) {
		if (data + sizeof(*ip) + sizeof(struct tcp_header) > end ||
		    ip->version_words != 0x45 || ip->protocol != IPPROTO_TCP ||
		    ip->fragment & bpf_htons(0x3fff))
			return 0;
		return sizeof(*ip);
	}
	if (skb->protocol != bpf_htons(PACKET_IPV6) ||
	    data + sizeof(*ip6) + sizeof(struct tcp_header) > end || ip6->next != IPPROTO_TCP)
		return 0;
	return sizeof(*ip6);
}

/* A packet of the connection that its socket's entry is of; else NAT has changed it, or the entry is of a former socket. */
static __always_inline bool quick_is_of(struct http_conn *c, struct tcp_header *tcp, bool ingress)
{
	return (ingress ? tcp->dest : tcp->source) == bpf_htons(c->rec.local_port) &&
	       (ingress ? tcp->source : tcp->dest) == bpf_htons(c->rec.peer_port);
}

static __always_inline enum http_look http_quick(struct __sk_buff *skb, const bool ingress)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct bpf_sock *key = skb->sk; /* its address, by which all hooks find the entry */
	struct http_bytes from = {};
	u32 at = quick_tcp(skb, data, end);
	struct tcp_header *tcp = data + at;
	struct http_conn *c;
	u8 flags;

	if (!at || !key || (void *)(tcp + 1) > end)
		return HTTP_GENERAL;
	flags = tcp->flags;
	from.at = at + (tcp->words >> 4) * 4;
	from.length = skb->len - from.at;
	if ((s32)from.length <= 0) {
		flags &= TCP_FLAG_FIN | TCP_FLAG_SYN | TCP_FLAG_RST;
		return from.length || flags ? HTTP_GENERAL : HTTP_BARE;
	}
	c = HTTP_ENTRY(key, http_slot_of_packet(key), &key);
	if (!c || c->life != HTTP_LIVE)
		return HTTP_STRANGE;
	if (!quick_is_of(c, tcp, ingress))
		return HTTP_GENERAL;
	if (c->off)
		return HTTP_NOTED;
	from.seq = bpf_ntohl(tcp->seq);
	from.now = http_now(skb, ingress);
	if (!(ingress == (c->rec.role == ROLE_INCOMING) ? http_quick_request(skb, c, &from) :
							  http_quick_response(skb, c, &from)))
		return HTTP_GENERAL;
	/* a capital letter alone may begin another protocol; a status was one of HTTP */
	return c->status ? HTTP_COMMON : HTTP_NOTED;
}

#endif
