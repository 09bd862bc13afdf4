/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Requests within the bytes of one connection: message.bpf.h tells the whole idea. */
#ifndef SONDE_HTTP_REQUEST_H
#define SONDE_HTTP_REQUEST_H

#include "state.bpf.h"

#define HTTP_AHEAD 256 /* messages looked for in one segment; more are too many for the verifier of 6.1 */
#define HTTP_AHEAD_USER 64 /* in one call of a library */
#define STATUS_BYTES 12 /* "HTTP/1.1 200" */
#define WORD_HEAD 0x44414548 /* four letters as one little-endian word */
#define WORD_HTTP 0x50545448
#define WORD_CONNECT 0x4e4e4f43

#define LOAD(from, done, to, size) \
	http_load(skb, (from)->user, (from)->at + (done), to, size, in_user)
#define LINE(from, done, left) \
	(in_user ? http_line_user((from)->user + (done), left) : \
		   http_line(skb, (from)->at + (done), left))
#define LONG_LINE(from, done, left) \
	(in_user ? http_long_line_user((from)->user + (done), left) : \
		   http_long_line(skb, (from)->at + (done), left))
#define EXTENT(from, done, left, bodiless) \
	(in_user ? http_extent_user((from)->user + (done), left, bodiless) : \
		   http_extent(skb, (from)->at + (done), left, bodiless))
#define WHOLE(from, done, left, extent) \
	(in_user ? http_whole_user((from)->user + (done), left, extent) : \
		   http_whole(skb, (from)->at + (done), left, extent))

static __always_inline int http_same_line_of(struct __sk_buff *skb, struct http_conn *c,
					     struct http_bytes *from, u32 done,
					     const bool in_user)
{
	u64 words[HTTP_LINE / 8];
	u64 *line = (u64 *)c->rec.line;
	u32 n = c->rec.line_bytes;

	if (!n || from->length - done < n)
		return false;
	CLAMP(n, HTTP_LINE);
	__builtin_memset(words, 0, sizeof(words));
	if (LOAD(from, done, words, n))
		return false;
	for (u32 i = 0; i < HTTP_LINE / 8; i++) {
		if (words[i] != line[i])
			return false;
		if (i * 8 + 8 >= n)
			break;
	}
	return true;
}

__noinline int http_same_line(struct __sk_buff *skb, struct http_conn *c, struct http_bytes *from,
			      u32 done)
{
	return c && from ? http_same_line_of(skb, c, from, done, false) : 0;
}

__noinline int http_same_line_user(struct http_conn *c, struct http_bytes *from, u32 done)
{
	return c && from ? http_same_line_of(NULL, c, from, done, true) : 0;
}

/* Sent ahead: the response to the message before it has not begun. */
static __always_inline int http_queue_of(struct __sk_buff *skb, struct http_conn *c,
					 struct http_bytes *from, u32 done, u32 n,
					 const bool in_user)
{
	u64 words[HTTP_LINE / 8] = {};

	CLAMP(n, HTTP_LINE);
	if (LOAD(from, done, words, n))
		return 0;
	if (!c->queued_other) {
		__builtin_memcpy(c->queued_line, words, sizeof(words));
		c->queued_length = n;
	} else {
		for (int i = 0; i < HTTP_LINE / 8; i++)
			if (c->queued_line[i] != words[i])
				c->mixed = true;
	}
	__sync_fetch_and_add(&c->queued_other, 1);
	return 0;
}

__noinline int http_queue(struct __sk_buff *skb, struct http_conn *c,
			  struct http_bytes *from, u32 done,
			  u32 n)
{
	return c && from ? http_queue_of(skb, c, from, done, n, false) : 0;
}

__noinline int http_queue_user(struct http_conn *c, struct http_bytes *from, u32 done, u32 n)
{
	return c && from ? http_queue_of(NULL, c, from, done, n, true) : 0;
}

static __always_inline void http_take_line(struct __sk_buff *skb, struct http_conn *c,
					   struct http_bytes *from, u32 done,
					   u32 n, const bool in_user)
{
	http_new_line(c, n);
	CLAMP(n, HTTP_LINE);
	LOAD(from, done, c->rec.line, n);
}

/* The begin of a request line whose end has not come yet. */
static __always_inline void http_first_piece(struct __sk_buff *skb, struct http_conn *c,
					     struct http_bytes *from, u32 done,
					     const bool in_user)
{
	u32 left = from->length - done, seq = from->seq + done;

	http_finish(c, HTTP_DONE, seq, c->response_end);
	http_take_line(skb, c, from, done, left, in_user);
	c->request_ns = from->now;
	c->request_from = seq;
	c->pieces = left;
	c->pieces_seq = seq + left;
}

/* An empty line before a request, which servers skip (RFC 9112, 2.2). */
static __always_inline u32 http_empty_line(struct __sk_buff *skb, struct http_conn *c,
					   struct http_bytes *from, u32 done, const bool in_user)
{
	u16 word = 0;

	if (from->length - done < 2 || LOAD(from, done, &word, 2) || word != 0x0a0d)
		return 0;
	c->request_next = from->seq + done + 2;
	return 2;
}

/* A request begins, or should begin, at `done`. The length of what is understood; 0: the segment is done. */
static __always_inline u32 http_one_request(struct __sk_buff *skb, struct http_conn *c,
					    struct http_bytes *from, u32 done,
					    const bool in_user)
{
	bool same = in_user ? http_same_line_user(c, from, done) :
			      http_same_line(skb, c, from, done);
	bool ahead = PHASE(c->message) == HTTP_REQUEST;
	u32 left = from->length - done, seq = from->seq + done;
	int n, length;

	if (same && left == c->whole_length && !ahead) {
		http_begin(c, seq, from->now);
		c->request_next = seq + left;
		return left;
	}
	n = same ? c->rec.line_bytes : LINE(from, done, left);
	if (n == HTTP_LINE && !same && !LONG_LINE(from, done, left))
		n = 0;
	if (!n && c->request_known) {
		length = http_empty_line(skb, c, from, done, in_user);
		if (length)
			return length;
	}
	c->request_known = false;
	if (n == LINE_INCOMPLETE && !ahead)
		http_first_piece(skb, c, from, done, in_user);
	if (n <= 0)
		return 0;
	if (ahead && same && !c->queued_other) {
		__sync_fetch_and_add(&c->queued, 1);
	} else if (ahead) {
		if (in_user)
			http_queue_user(c, from, done, n);
		else
			http_queue(skb, c, from, done, n);
	} else {
		http_begin(c, seq, from->now);
		if (!same)
			http_take_line(skb, c, from, done, n, in_user);
	}
	length = EXTENT(from, done, left, false);
	if (length < -CHUNKED)
		length = WHOLE(from, done, left, length);
	else if (length < 0)
		length = -length; /* no length is named: there is no body */
	if (!length)
		return 0;
	c->expects = length & EXPECTS ? 1 : 0;
	length &= ~EXPECTS;
	c->request_known = true;
	c->request_next = seq + length;
	if (!ahead && length == left)
		c->whole_length = left;
	return length;
}

__noinline int http_request_in(struct __sk_buff *skb, struct http_conn *c, struct http_bytes *from,
			       u32 done)
{
	return c && from ? http_one_request(skb, c, from, done, false) : 0;
}

__noinline int http_request_user(struct http_conn *c, struct http_bytes *from, u32 done)
{
	return c && from ? http_one_request(NULL, c, from, done, true) : 0;
}

/* The requests behind the first of a segment. */
static __always_inline int http_requests_of(struct __sk_buff *skb, struct http_conn *c,
					 struct http_bytes *from, u32 done, const bool in_user)
{
	u32 length = from->length;

	for (u32 i = 0; i < (in_user ? HTTP_AHEAD_USER : HTTP_AHEAD); i++) {
		u32 taken;

		if (done >= length)
			return 0;
		taken = in_user ? http_request_user(c, from, done) :
				  http_request_in(skb, c, from, done);
		if (!taken)
			return 0;
		done += taken;
	}
	c->request_known = false;
	return 0;
}

/* The loops are global functions: the verifier walks their rounds once. */
__noinline int http_requests(struct __sk_buff *skb, struct http_conn *c, struct http_bytes *from,
			     u32 done)
{
	return c && from ? http_requests_of(skb, c, from, done, false) : 0;
}

/* More of a request line that came in pieces. Where its headers end will not be known. */
static __always_inline int http_more_pieces_of(struct __sk_buff *skb, struct http_conn *c,
						struct http_bytes *from, const bool in_user)
{
	u32 n = from->length < HTTP_LINE ? from->length : HTTP_LINE, have = c->pieces;
	u8 *bytes = (u8 *)c->queued_line; /* nothing is queued before the line is whole */
	bool whole = false;

	if (from->seq != c->pieces_seq)
		return 0;
	CLAMP(n, HTTP_LINE);
	if (LOAD(from, 0, bytes, n))
		return 0;
	c->pieces_seq += from->length;
	for (u32 i = 0; i < HTTP_LINE; i++) {
		u32 to = have + i;
		u8 byte = bytes[i];

		if (i >= n || to >= HTTP_LINE)
			break;
		c->rec.line[to] = byte;
		c->pieces = c->rec.line_bytes = to + 1;
		whole = byte == '\r' || byte == '\n' || to + 1 >= HTTP_LINE;
		if (whole)
			break;
	}
	if (!whole)
		return 0;
	c->pieces = 0;
	if (http_line_kept(c))
		http_begin(c, c->request_from, c->request_ns);
	else
		http_new_line(c, 0); /* another protocol */
	return 0;
}

__noinline int http_more_pieces(struct __sk_buff *skb, struct http_conn *c, struct http_bytes *from)
{
	return c && from ? http_more_pieces_of(skb, c, from, false) : 0;
}

__noinline int http_more_pieces_user(struct http_conn *c, struct http_bytes *from)
{
	return c && from ? http_more_pieces_of(NULL, c, from, true) : 0;
}

/* A request where the body of one should be that was refused before it was sent (Expect: 100-continue). */
static __always_inline bool http_gave_up(struct __sk_buff *skb, struct http_conn *c,
					 struct http_bytes *from, const bool in_user)
{
	return c->expects && PHASE(c->message) != HTTP_REQUEST && c->status >= 400 &&
	       from->seq == c->request_end && LINE(from, 0, from->length) > 0;
}

/* Where the next message begins in these bytes, which http_requests is to look at; 0: nowhere. */
static __always_inline u32 http_on_request(struct __sk_buff *skb, struct http_conn *c,
					    struct http_bytes *from,
					    const bool in_user)
{
	u32 length = from->length, end = from->seq + length, done = length, rest = 0;
	s32 behind = 0;

	if (c->pieces) {
		in_user ? http_more_pieces_user(c, from) : http_more_pieces(skb, c, from);
	} else if (c->request_known) {
		behind = c->request_next - from->seq;
		if (behind > 0 && http_gave_up(skb, c, from, in_user))
			done = 0;
		else if (behind >= 0 && behind < (s32)length)
			done = behind;
		/* else a body, a repeat, or ahead of what is missing */
	} else if (PHASE(c->message) != HTTP_REQUEST && !AFTER(c->request_end, from->seq)) {
		done = 0;
		/* else more of a message whose end is unknown, or a repeat */
	}
	if (done < length) {
		u32 taken = in_user ? http_request_user(c, from, done) :
				      http_request_in(skb, c, from, done);

		if (taken && done + taken < length)
			rest = done + taken;
	}
	if (!AFTER(end, c->request_end))
		return rest; /* a repeat */
	c->request_end = end;
	if (end - c->request_from >= PARTIAL_BYTES)
		http_long_request(c);
	return rest;
}

#endif
