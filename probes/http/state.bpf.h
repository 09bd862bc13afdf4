/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The messages of one connection: begun, finished, kept in the run, reported. Rules of who may what: record.bpf.h. */
#ifndef SONDE_HTTP_STATE_H
#define SONDE_HTTP_STATE_H

#include "../tcp/conn.bpf.h"
#include "parse.bpf.h"
#include "totals.bpf.h"

#define PHASE(message) ((message) & 3)
#define AFTER(a, b) ((s32)((a) - (b)) > 0) /* of sequence numbers */
#define PARTIAL_BYTES (1U << 30) /* long messages are noted in parts of this size: sequence numbers are 32 bits */
#define REQUESTS_AHEAD 256 /* of those without a response at the end of their connection */
#define PARTS_MAX 64

static __always_inline bool http_swap(u64 *word, u64 old, u64 now)
{
	return __sync_val_compare_and_swap(word, old, now) == old;
}

static __always_inline u32 http_time(u64 ns)
{
	if (ns < HTTP_COARSE)
		return ns;
	ns >>= 10;
	return ns < (HTTP_TIME_MAX & ~HTTP_COARSE) ? HTTP_COARSE | ns : HTTP_TIME_MAX;
}

static __always_inline struct http_rest *http_rest_of(u8 role, u16 status)
{
	u32 class = status / 100;
	u32 slot = (role < ROLE_MAX ? role : 0) * HTTP_CLASSES + (class < HTTP_CLASSES ? class : 0);

	return bpf_map_lookup_elem(&http_rests, &slot);
}

/* Who reads and writes the socket now, from the entry that the `tcp` source keeps. */
static __always_inline void http_owner(struct http_conn *c, struct owner *owner)
{
	u64 key = c->sk;
	struct conn *conn = key ? bpf_map_lookup_elem(&tcp_conns, &key) : NULL;

	if (conn && conn->owner.tgid)
		*owner = conn->owner;
}

/* Claims the entries that are not reported yet; false: there are none. The run is empty then. */
static __always_inline bool http_claim_run(struct http_conn *c)
{
	u32 entries = c->entries;
	u64 old;

	c->entries = 0; /* before the claim: a sweep must not take old entries under the new generation */
	for (int i = 0; i < 3; i++) {
		old = *(volatile u64 *)&c->claimed;
		if (http_swap(&c->claimed, old, ((old >> 32) + 1) << 32))
			break; /* else the sweep has just claimed what there was */
	}
	c->rec.first = (u32)old;
	c->rec.entries = entries;
	return entries > (u32)old;
}

/* Producer: the run goes to the totals of its kind, else to the ring, or as mere sums to `http_rests`; a new one begins. */
__noinline int http_emit(struct http_conn *c)
{
	struct http_sums sums = {};
	struct http_rest *rest;
	u32 size;

	if (!c || !http_claim_run(c))
		return 0;
	http_owner(c, &c->rec.owner);
	http_sum_run(&c->rec, &sums);
	if (http_add_total(&c->rec, &sums))
		return 0;
	size = c->rec.entries;
	if (size > HTTP_RUN)
		size = HTTP_RUN;
	size = size * sizeof(struct http_entry) + __builtin_offsetof(struct http_record, entry);
	if (ring_output(&c->rec, size))
		return 0;
	count(COUNT_HTTP_FULL);
	rest = http_rest_of(c->rec.role, c->rec.status);
	if (rest)
		http_rest_add(rest, &sums.rest);
	return 0;
}

/* Producer: one more entry of the run, which this status may end. */
__noinline int http_push(struct http_conn *c, struct http_entry *entry, u32 status)
{
	u32 n;

	if (!c || !entry)
		return 0;
	n = c->entries;
	if (n >= HTTP_RUN || (n && c->rec.status != status)) {
		http_emit(c);
		n = 0;
	}
	if (!n)
		c->rec.status = status;
	if (n >= HTTP_RUN)
		return 0; /* cannot be */
	c->rec.entry[n] = *entry;
	barrier();
	c->entries = n + 1;
	return 0;
}

/* What the message has that was not reported: all of it, or what came since the sweep took it. */
static __always_inline bool http_measure(struct http_conn *c, u64 message, u32 request_to,
					 u32 response_to, struct http_entry *entry)
{
	u32 request_from = c->request_from, response_from = c->response_from;

	if (PHASE(message) == HTTP_DONE) {
		struct http_mark *mark = &c->mark[message >> 2 & 1];

		if (mark->message != message >> 2)
			return false;
		request_from = mark->request;
		response_from = mark->response;
		entry->ttfb = HTTP_NO_MESSAGE;
		entry->duration = http_time(c->last_ns - mark->ns);
	} else if (PHASE(message) == HTTP_RESPONSE) {
		entry->ttfb = http_time(c->response_ns - c->request_ns);
		entry->duration = http_time(c->last_ns - c->request_ns);
	} else {
		entry->ttfb = HTTP_NO_RESPONSE;
		entry->duration = 0;
	}
	entry->bytes_request = AFTER(request_to, request_from) ? request_to - request_from : 0;
	entry->bytes_response = AFTER(response_to, response_from) ? response_to - response_from : 0;
	return entry->ttfb != HTTP_NO_MESSAGE || entry->bytes_request || entry->bytes_response;
}

/* Producer: the parts of a long request, when its status is known. */
static __always_inline void http_push_parts(struct http_conn *c, struct http_entry *part,
					    u32 status)
{
	part->ttfb = HTTP_NO_MESSAGE;
	part->bytes_request = PARTIAL_BYTES;
	for (u32 i = 0; i < PARTS_MAX && i < c->request_parts; i++)
		http_push(c, part, status);
	c->request_parts = 0;
	part->ttfb = part->bytes_request = 0;
}

/* Producer: the message ends where the next begins, which is in `next_phase` then. */
__noinline int http_finish(struct http_conn *c, u32 next_phase, u32 request_to, u32 response_to)
{
	struct http_entry entry = {};
	u64 message = 0;

	if (!c)
		return 0;
	if (c->request_parts) /* first: behind what follows each way would walk this loop by itself */
		http_push_parts(c, &entry, PHASE(c->message) == HTTP_REQUEST ? 0 : c->status);
	for (int i = 0; i < 3; i++) {
		message = *(volatile u64 *)&c->message;
		if (http_swap(&c->message, message, ((message >> 2) + 1) << 2 | next_phase))
			break; /* else the sweep has just taken it */
	}
	if (!(message >> 2))
		return 0; /* there was none before */
	if (http_measure(c, message, request_to, response_to, &entry))
		http_push(c, &entry, PHASE(message) == HTTP_REQUEST ? 0 : c->status);
	return 0;
}

/* The same of a request as of a response below, but until it is answered its status is not known: its parts wait. */
static __always_inline void http_long_request(struct http_conn *c)
{
	u64 message = c->message;
	struct http_mark *mark = &c->mark[message >> 2 & 1];
	bool marked = PHASE(message) == HTTP_DONE && mark->message == message >> 2;

	if (!(message >> 2) || (PHASE(message) == HTTP_DONE && !marked))
		return; /* of no message */
	if (marked && c->request_end - mark->request < PARTIAL_BYTES)
		return;
	if (marked)
		mark->request += PARTIAL_BYTES;
	else
		c->request_from += PARTIAL_BYTES;
	if (c->request_parts < PARTS_MAX)
		c->request_parts++;
}

/* A message begins; what it follows is finished. `at`: its first byte's sequence number. */
static __always_inline void http_begin(struct http_conn *c, u32 at, u64 now)
{
	http_finish(c, HTTP_REQUEST, at, c->response_end);
	c->request_ns = now;
	c->request_from = at;
	c->response_from = c->response_next = c->response_end;
	c->response_loose = false;
	c->status_pieces = 0;
}

/* Producer, when no message is under way: the line that follows is another. */
static __always_inline void http_new_line(struct http_conn *c, u32 length)
{
	u64 *line = (u64 *)c->rec.line;

	http_emit(c);
	c->rec.head.flags &= ~HTTP_MIXED;
	for (int i = 0; i < HTTP_LINE / 8; i++)
		line[i] = 0;
	c->rec.line_bytes = length;
	c->whole_length = 0;
}

/*
 * The response to a request that was sent ahead begins at `at`: its request becomes the message. What it had of the
 * request's bytes is its share of all that came.
 */
static __always_inline void http_promote(struct http_conn *c, u32 at)
{
	u32 ahead = c->queued + c->queued_other;
	u32 all = c->request_end - c->request_from;
	u32 request_to = c->request_from + all / (ahead + 1);

	http_finish(c, HTTP_REQUEST, request_to, at);
	c->request_from = request_to;
	c->response_from = at;
	if (c->queued) {
		__sync_fetch_and_add(&c->queued, -1);
		return;
	}
	if (c->queued_length || c->mixed) {
		u64 *line = (u64 *)c->rec.line;

		http_new_line(c, c->queued_length);
		for (int i = 0; i < HTTP_LINE / 8; i++)
			line[i] = c->queued_line[i];
		if (c->mixed)
			c->rec.head.flags |= HTTP_MIXED;
		c->queued_length = c->mixed = 0;
	}
	__sync_fetch_and_add(&c->queued_other, -1);
}

/* Sequence numbers are 32 bits: a long response is noted in parts, before they could turn round. */
static __always_inline void http_long_response(struct http_conn *c)
{
	struct http_entry entry = { .ttfb = HTTP_NO_MESSAGE };
	u64 message = c->message;
	struct http_mark *mark = &c->mark[message >> 2 & 1];
	bool marked = PHASE(message) == HTTP_DONE && mark->message == message >> 2;
	u32 from = marked ? mark->response : c->response_from;

	if (c->response_end - from < PARTIAL_BYTES || PHASE(message) == HTTP_REQUEST ||
	    !(message >> 2) || (PHASE(message) == HTTP_DONE && !marked))
		return;
	entry.bytes_response = c->response_end - from;
	if (marked)
		mark->response = c->response_end;
	else
		c->response_from = c->response_end;
	http_push(c, &entry, c->status);
}

/* The connection has ended: what is under way, and what waited. */
__noinline int http_end(struct http_conn *c)
{
	struct http_entry none = { .ttfb = HTTP_NO_RESPONSE };
	u32 ahead;

	if (!c)
		return 0;
	ahead = c->queued + c->queued_other;
	http_finish(c, HTTP_DONE, c->request_end, c->response_end);
	for (u32 i = 0; i < REQUESTS_AHEAD && i < ahead; i++)
		http_push(c, &none, 0);
	http_emit(c);
	return 0;
}

#endif
