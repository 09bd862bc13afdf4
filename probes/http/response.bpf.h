/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Responses within the bytes of one connection: message.bpf.h tells the whole idea. */
#ifndef SONDE_HTTP_RESPONSE_H
#define SONDE_HTTP_RESPONSE_H

#include "request.bpf.h"

/* The final response has begun. */
static __always_inline void http_answered(struct http_conn *c, u32 at, u16 status, u64 now)
{
	if (PHASE(c->message) != HTTP_REQUEST)
		http_promote(c, at);
	c->status = status;
	c->response_ns = now;
	c->last_ns = now;
	barrier(); /* the sweep looks at the phase first */
	c->message = (c->message & ~3ULL) | HTTP_RESPONSE;
	if (status == 101 || (status / 100 == 2 && *(u32 *)c->rec.line == WORD_CONNECT))
		c->off = true; /* another protocol, or a tunnel */
}

/* A status line that comes in pieces. */
static __always_inline int http_status_piece_of(struct __sk_buff *skb, struct http_conn *c,
						struct http_bytes *from, const bool in_user)
{
	u64 words[2] = {};
	u8 *bytes = (u8 *)words, *to = (u8 *)c->status_line;
	u32 have = c->status_pieces, n = from->length < 16 ? from->length : 16;
	u16 status;

	if (from->seq != c->response_next + have)
		return 0;
	CLAMP(n, 16);
	if (LOAD(from, 0, words, n))
		return 0;
	for (u32 i = 0; i < 16; i++) {
		u32 at = have + i;

		if (i >= n || at >= 16)
			break;
		to[at] = bytes[i];
		c->status_pieces = at + 1;
	}
	if (c->status_pieces < STATUS_BYTES)
		return 0;
	c->status_pieces = 0;
	c->response_loose = true;
	status = http_status(c->status_line);
	if (status >= 200 || status == 101)
		http_answered(c, c->response_next, status, from->now);
	return 0;
}

__noinline int http_status_piece(struct __sk_buff *skb, struct http_conn *c,
				 struct http_bytes *from)
{
	return c && from ? http_status_piece_of(skb, c, from, false) : 0;
}

__noinline int http_status_piece_user(struct http_conn *c, struct http_bytes *from)
{
	return c && from ? http_status_piece_of(NULL, c, from, true) : 0;
}

/* A response begins, or should begin, at `done`. The length of what is understood; 0: the segment is done. */
static __always_inline u32 http_one_response(struct __sk_buff *skb, struct http_conn *c,
					     struct http_bytes *from, u32 done,
					     const bool in_user)
{
	u32 left = from->length - done, seq = from->seq + done;
	u64 line[2] = {};
	u16 status;
	int length;

	if (left < STATUS_BYTES || LOAD(from, done, line, STATUS_BYTES))
		return 0;
	status = http_status(line);
	if (!status)
		return 0;
	if (status >= 200 || status == 101) {
		http_answered(c, seq, status, from->now);
		if (!c->queued && !c->queued_other)
			return 0;
	}
	length = EXTENT(from, done, left, status < 200 || status == 204 || status == 304 ||
						  *(u32 *)c->rec.line == WORD_HEAD);
	if (length > 0)
		length &= ~EXPECTS;
	if (length < -CHUNKED)
		length = WHOLE(from, done, left, length);
	if (length < 0 && (status < 200 || status == 204 || status == 304 ||
			   *(u32 *)c->rec.line == WORD_HEAD))
		length = -length;
	c->response_loose = length <= 0;
	if (length <= 0)
		return 0;
	c->response_next = seq + length;
	return length;
}

__noinline int http_response_in(struct __sk_buff *skb, struct http_conn *c, struct http_bytes *from,
				u32 done)
{
	return c && from ? http_one_response(skb, c, from, done, false) : 0;
}

__noinline int http_response_user(struct http_conn *c, struct http_bytes *from, u32 done)
{
	return c && from ? http_one_response(NULL, c, from, done, true) : 0;
}

static __always_inline bool http_awaits(struct http_conn *c)
{
	return PHASE(c->message) == HTTP_REQUEST || c->queued || c->queued_other;
}

/* The responses behind the first of a segment. */
static __always_inline int http_responses_of(struct __sk_buff *skb, struct http_conn *c,
					  struct http_bytes *from, u32 done, const bool in_user)
{
	u32 length = from->length;

	for (u32 i = 0; i < (in_user ? HTTP_AHEAD_USER : HTTP_AHEAD); i++) {
		u32 taken;

		if (done >= length || !http_awaits(c))
			return 0;
		taken = in_user ? http_response_user(c, from, done) :
				  http_response_in(skb, c, from, done);
		if (!taken)
			return 0;
		done += taken;
	}
	return 0;
}

__noinline int http_responses(struct __sk_buff *skb, struct http_conn *c, struct http_bytes *from,
			      u32 done)
{
	return c && from ? http_responses_of(skb, c, from, done, false) : 0;
}

/* Where a response may begin in these bytes; their length: nowhere. */
static __always_inline u32 http_response_at(struct http_conn *c, struct http_bytes *from)
{
	s32 behind = c->response_next - from->seq;

	if (!http_awaits(c))
		return from->length;
	if (c->response_loose)
		return behind > 0 ? from->length : 0;
	return behind >= 0 && behind < (s32)from->length ? behind : from->length;
}

/* As http_on_request. */
static __always_inline u32 http_on_response(struct __sk_buff *skb, struct http_conn *c,
					     struct http_bytes *from,
					     const bool in_user)
{
	u32 length = from->length, end = from->seq + length, done, rest = 0;

	if (c->response_unset) {
		c->response_unset = false;
		c->response_from = c->response_next = c->response_end = from->seq;
	}
	done = http_response_at(c, from);
	if (http_awaits(c) && (c->status_pieces || (!done && length < STATUS_BYTES))) {
		in_user ? http_status_piece_user(c, from) : http_status_piece(skb, c, from);
		done = length;
	}
	if (done < length) {
		u32 taken = in_user ? http_response_user(c, from, done) :
				      http_response_in(skb, c, from, done);

		if (taken && done + taken < length)
			rest = done + taken;
	}
	if (!AFTER(end, c->response_end))
		return rest; /* a repeat */
	c->response_end = end;
	c->last_ns = from->now;
	http_long_response(c);
	return rest;
}

#endif
