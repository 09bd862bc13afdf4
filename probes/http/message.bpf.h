/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The messages within the bytes of one connection, whoever brings them: packets (http.bpf.h), or the calls of a TLS
 * library. README.md has the contract.
 *
 * A message begins where the one before it ends (Content-Length, or none for methods without a body), or, where that
 * cannot be known, with a segment that begins like one while no response is awaited. The common case, a segment that is
 * one whole request with the same line as the last, costs one load and a comparison of some words.
 */
#ifndef SONDE_HTTP_MESSAGE_H
#define SONDE_HTTP_MESSAGE_H

#include "state.bpf.h"

#define HTTP_AHEAD 32 /* messages looked for in one segment */
#define STATUS_BYTES 12 /* "HTTP/1.1 200" */
#define WORD_HEAD 0x44414548 /* four letters as one little-endian word */
#define WORD_HTTP 0x50545448

#define LOAD(from, done, to, size) \
	http_load(skb, (from)->user, (from)->at + (done), to, size, in_user)
#define LINE(from, done, left) \
	(in_user ? http_line_user((from)->user + (done), left) : \
		   http_line(skb, (from)->at + (done), left))
#define EXTENT(from, done, left, bodiless) \
	(in_user ? http_extent_user((from)->user + (done), left, bodiless) : \
		   http_extent(skb, (from)->at + (done), left, bodiless))

/* ---- requests ---- */

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

/* Methods whose requests have no body unless they say so. */
static __always_inline bool has_no_body(const char *line)
{
	u32 first = *(u32 *)line;

	return first == 0x20544547 /* "GET " */ || first == WORD_HEAD ||
	       first == 0x454c4544 /* "DELE" */ || first == 0x4954504f /* "OPTI" */;
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
	if (length < 0 && (ahead || has_no_body(c->rec.line)))
		length = -length;
	if (length <= 0)
		return 0;
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

/* More of a request line that came in pieces. Where its headers end will not be known. */
static __always_inline int http_more_pieces_of(struct __sk_buff *skb, struct http_conn *c,
						struct http_bytes *from, const bool in_user)
{
	u32 n = from->length < HTTP_LINE ? from->length : HTTP_LINE, have = c->pieces;
	u8 *bytes = (u8 *)c->queued_line; /* nothing is queued before the line is whole */

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
			return 0;
		c->rec.line[to] = byte;
		c->pieces = c->rec.line_bytes = to + 1;
		if (byte != '\r' && byte != '\n' && to + 1 < HTTP_LINE)
			continue;
		c->pieces = 0;
		http_begin(c, c->request_from, c->request_ns);
		return 0;
	}
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

static __always_inline void http_on_request(struct __sk_buff *skb, struct http_conn *c,
					    struct http_bytes *from,
					    const bool in_user)
{
	u32 length = from->length, end = from->seq + length, done = length;
	s32 behind = 0;

	if (c->pieces) {
		in_user ? http_more_pieces_user(c, from) : http_more_pieces(skb, c, from);
	} else if (c->request_known) {
		behind = c->request_next - from->seq;
		if (behind >= 0 && behind < (s32)length)
			done = behind;
		/* else a body, a repeat, or ahead of what is missing */
	} else if (PHASE(c->message) != HTTP_REQUEST && !AFTER(c->request_end, from->seq)) {
		done = 0;
		/* else more of a message whose end is unknown, or a repeat */
	}
	for (int i = 0; i < HTTP_AHEAD && done < length; i++) {
		u32 taken = in_user ? http_request_user(c, from, done) :
				      http_request_in(skb, c, from, done);

		if (!taken)
			break;
		done += taken;
	}
	if (AFTER(end, c->request_end))
		c->request_end = end;
}

/* ---- responses ---- */

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
	if (status == 101)
		c->off = true;
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

static __always_inline void http_on_response(struct __sk_buff *skb, struct http_conn *c,
					     struct http_bytes *from,
					     const bool in_user)
{
	u32 length = from->length, end = from->seq + length;
	u32 done = http_response_at(c, from);

	if (http_awaits(c) && (c->status_pieces || (!done && length < STATUS_BYTES))) {
		in_user ? http_status_piece_user(c, from) : http_status_piece(skb, c, from);
		done = length;
	}
	for (int i = 0; i < HTTP_AHEAD && done < length; i++) {
		u32 taken = in_user ? http_response_user(c, from, done) :
				      http_response_in(skb, c, from, done);

		if (!taken)
			break;
		done += taken;
		if (!http_awaits(c))
			break;
	}
	if (!AFTER(end, c->response_end))
		return; /* a repeat */
	c->response_end = end;
	c->last_ns = from->now;
	http_long_response(c);
}

#endif
