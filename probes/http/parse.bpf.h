/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Reading HTTP/1: is this a request line, where do the headers end, how long is the body. Eight bytes at a time, since a
 * byte costs as much as a word. Bytes come from a packet, or from the memory of a process (uprobes): a constant says which, and
 * the compiler drops the other.
 *
 * http_line and http_extent are global functions: the verifier proves each once, whoever calls them how often.
 */
#ifndef SONDE_HTTP_PARSE_H
#define SONDE_HTTP_PARSE_H

#include "record.bpf.h"

#define LANES(byte) (0x0101010101010101ULL * (byte))
#define METHOD_MAX 24
#define LINE_INCOMPLETE (-1)
#define LINE_SCAN 1024 /* so far the end of a long request's target is looked for */
#define LENGTH_UNKNOWN (-2) /* longer than can be counted on */
#define LENGTH_EXPECT (-3) /* not of a length: Expect */
#define LENGTH_CHUNKED (-4)
#define SCAN_BYTES 512
#define HEADERS_MAX 4096 /* behind longer ones the next message is found by its line */
#define CONTENT_LENGTH_MAX (1 << 29)
#define CHUNKED (1 << 29) /* taken from an extent: chunks follow the headers */
#define CHUNKS 128 /* of a message that are followed; longer ones end where the next message is found by its line */
#define CHUNK_BYTES 16 /* its line; longer ones have extensions, which nobody sends */
#define CHUNK_LAST (1 << 30) /* beside an extent: it ends the message */
#define EXPECTS (1 << 30) /* beside an extent: the body is sent after a 100 only (Expect) */

/* Tells compiler and verifier that 1 <= n <= power; both lose sight of it otherwise. */
#define CLAMP(n, power) \
({ \
	asm volatile("" : "+r"(n)); \
	n = ((n - 1) & ((power) - 1)) + 1; \
})

/* 0x80 in each byte that is zero: exact for the lowest such byte. */
static __always_inline u64 zero_lanes(u64 x)
{
	return (x - LANES(1)) & ~x & LANES(0x80);
}

/* Index of the lowest byte that is marked. */
static __always_inline u32 lowest_lane(u64 marks)
{
	u64 low = marks & -marks;

	return ((((low >> 7) - 1) & LANES(1)) * LANES(1)) >> 56;
}

/* Bytes of one direction: where they are in an skb, which is passed beside this, or in the current process's memory. */
struct http_bytes {
	u64 user; /* address, or 0 */
	u32 at; /* in the skb */
	u32 length;
	u32 seq; /* of the first byte, in this direction of the connection */
	u32 unused;
	u64 now;
};

static __always_inline long http_load(struct __sk_buff *skb, u64 user, u32 at, void *to, u32 size,
				      const bool in_user)
{
	if (in_user)
		return bpf_probe_read_user(to, size, (void *)(user + at));
	return bpf_skb_load_bytes(skb, at, to, size);
}

static __always_inline bool is_method_byte(u8 c)
{
	return (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

/* Marks of the bytes that are control characters; exact for the lowest. */
static __always_inline u64 control_lanes(u64 word)
{
	return (word - LANES(0x20)) & ~word & LANES(0x80);
}

/* The same of blanks and control characters. */
static __always_inline u64 blank_lanes(u64 word)
{
	return (word - LANES(0x21)) & ~word & LANES(0x80);
}

/* "HTTP/1." and a digit; read as one little-endian word, as all machines here have it. */
static __always_inline bool is_version(u64 word)
{
	return (word & 0xffffffffffffffULL) == 0x2e312f50545448ULL && (word >> 56) - '0' <= 9;
}

/*
 * What begins here is as long as HTTP_LINE, or longer. False: it is no request line, since the first blank behind the method's
 * is not followed by the version.
 */
static __always_inline bool http_long_line_of(struct __sk_buff *skb, u64 user, u32 at, u32 left,
					      const bool in_user)
{
	u64 words[8], tail = 0, blank = 0;
	u32 from, end;

	for (from = METHOD_MAX + 8; from < LINE_SCAN && from < left; from += 64) {
		u32 n = left - from < 64 ? left - from : 64;

		__builtin_memset(words, 0, sizeof(words)); /* where the bytes end is a blank, too */
		CLAMP(n, 64);
		if (http_load(skb, user, at + from, words, n, in_user))
			return false;
		blank = 0;
		for (u32 i = 0; i < 8; i++)
			blank |= blank_lanes(words[i]);
		if (blank)
			break;
	}
	if (!blank)
		return true; /* longer than is looked through */
	for (end = 0; end < 64; end += 8) {
		blank = blank_lanes(words[end / 8]);
		if (blank)
			break;
	}
	end += from + lowest_lane(blank);
	if (end + 9 > left)
		return true; /* it ends in another segment */
	return !http_load(skb, user, at + end + 1, &tail, 8, in_user) && is_version(tail);
}

__noinline int http_long_line(struct __sk_buff *skb, u32 at, u32 left)
{
	return http_long_line_of(skb, 0, at, left, false);
}

__noinline int http_long_line_user(u64 user, u32 left)
{
	return http_long_line_of(NULL, user, 0, left, true);
}

/* Of a line longer than HTTP_LINE, what follows the method; CONNECT's and others' targets are shorter. */
static __always_inline bool is_target(u8 first)
{
	return first == '/' || first == 'h' || first == 'H' || first == '*';
}

/*
 * Length of the request line that begins here, with its CR or LF; HTTP_LINE: longer than that (what is there looks like
 * one); LINE_INCOMPLETE: so far it looks like one; 0: no request of HTTP/1.
 */
static __always_inline int http_line_of(struct __sk_buff *skb, u64 user, u32 at,
						u32 left, const bool in_user)
{
	u64 words[HTTP_LINE / 8] = {};
	u8 *bytes = (u8 *)words;
	u32 n = left < HTTP_LINE ? left : HTTP_LINE;
	u32 method, end = HTTP_LINE;
	u64 tail = 0;
	u8 stop = 0;

	if (!left)
		return 0;
	CLAMP(n, HTTP_LINE);
	if (http_load(skb, user, at, words, n, in_user))
		return 0;
	for (method = 0; method < METHOD_MAX; method++) {
		stop = bytes[method];
		if (!is_method_byte(stop))
			break;
	}
	if (method >= METHOD_MAX || bytes[0] < 'A')
		return 0;
	if (method >= n)
		return LINE_INCOMPLETE;
	if (method < 3 || stop != ' ')
		return 0;
	for (int i = 0; i < HTTP_LINE / 8; i++) {
		u64 control = control_lanes(words[i]);

		if (!control)
			continue;
		end = i * 8 + lowest_lane(control);
		break;
	}
	if (end >= n && n < HTTP_LINE)
		return LINE_INCOMPLETE;
	if (end >= n) {
		if (http_load(skb, user, at + method + 1, &tail, 1, in_user) || !is_target(tail))
			return 0;
		return HTTP_LINE;
	}
	if (end < method + 9 || http_load(skb, user, at + end - 8, &tail, 8, in_user))
		return 0;
	if (!is_version(tail))
		return 0;
	tail = 0;
	if (http_load(skb, user, at + end, &tail, 1, in_user) || (tail != '\r' && tail != '\n'))
		return 0;
	return end + 1;
}

/* Value of a Content-Length header that begins after this line feed; LENGTH_UNKNOWN: too long; -1: another header. */
static __always_inline int http_content_length_of(struct __sk_buff *skb, u64 user, u32 at,
						u32 left, const bool in_user)
{
	u64 words[4] = {};
	u8 *bytes = (u8 *)words;
	u32 n = left < 32 ? left : 32;
	bool digits = false;
	int value = 0;

	if (!left)
		return -1;
	CLAMP(n, 32);
	if (http_load(skb, user, at, words, n, in_user))
		return -1;
	/* "transfer-encoding:" in either case: the message goes on until what it says */
	if ((words[0] | LANES(0x20)) == 0x726566736e617274ULL &&
	    (words[1] | LANES(0x20)) == 0x6e69646f636e652dULL && (words[2] & 0xffdf) == 0x3a47)
		return LENGTH_CHUNKED;
	/* "expect:" */
	if ((words[0] & ~LANES(0x20) & 0xffffffffffffffULL) == 0x1a544345505845ULL)
		return LENGTH_EXPECT;
	/* "content-length:" in either case */
	if ((words[0] | LANES(0x20)) != 0x2d746e65746e6f63ULL ||
	    ((words[1] | 0x20202020202020ULL) & 0xffffffffffffffULL) != 0x3a6874676e656cULL)
		return -1;
	for (int i = 15; i < 32; i++) {
		u8 c = bytes[i];

		if (c >= '0' && c <= '9' && value < CONTENT_LENGTH_MAX / 10) {
			value = value * 10 + (c - '0');
			digits = true;
		} else if (c >= '0' && c <= '9') {
			return LENGTH_UNKNOWN;
		} else if (digits || (c != ' ' && c != '\t')) {
			break;
		}
	}
	return digits ? value : -1;
}

/* What headers say of the body. */
struct http_body {
	int length; /* or LENGTH_UNKNOWN, LENGTH_CHUNKED; -1: none is named */
	int expects; /* EXPECTS or 0 */
};

/* What the header that begins here says. Transfer-Encoding wins (RFC 9112, 6.3). */
static __always_inline int http_note_header_of(struct __sk_buff *skb, u64 user, u32 at, u32 left,
					       struct http_body *body, const bool in_user)
{
	int value = http_content_length_of(skb, user, at, left, in_user);

	if (value == LENGTH_EXPECT)
		body->expects = EXPECTS;
	else if (value != -1 && body->length != LENGTH_CHUNKED)
		body->length = value;
	return 0;
}

__noinline int http_note_header(struct __sk_buff *skb, u32 at, u32 left, struct http_body *body)
{
	return body ? http_note_header_of(skb, 0, at, left, body, false) : 0;
}

__noinline int http_note_header_user(u64 user, u32 left, struct http_body *body)
{
	return body ? http_note_header_of(NULL, user, 0, left, body, true) : 0;
}

/*
 * Looks through SCAN_BYTES for the end of the headers, and on the way for what says how long the body is, which goes to `body`.
 * The length up to that end; 0: it is not here.
 */
static __always_inline int http_scan_of(struct __sk_buff *skb, u64 user, u32 at, u32 left,
					struct http_body *body, const bool in_user)
{
	u64 words[10];

	for (u32 i = 0; i < SCAN_BYTES / 8; i++) {
		u64 w, next, ends, fields, encoded, expects;
		u32 from = i * 8;

		if (from + 4 > left)
			return 0;
		if ((i & 7) == 0) {
			s64 n = left - from < 72 ? left - from : 72;

			__builtin_memset(words, 0, sizeof(words));
			/* each bound by itself, signed: older verifiers keep track of no more */
			asm volatile("" : "+r"(n));
			if (n <= 0)
				return 0;
			asm volatile("" : "+r"(n));
			if (n > 72 || http_load(skb, user, at + from, words, n, in_user))
				return 0;
		}
		w = words[i & 7];
		next = words[(i & 7) + 1];
		/* a lane is zero where CR LF CR LF begins */
		ends = (w ^ LANES('\r')) | ((w >> 8 | next << 56) ^ LANES('\n')) |
		       ((w >> 16 | next << 48) ^ LANES('\r')) |
		       ((w >> 24 | next << 40) ^ LANES('\n'));
		/* where LF, `c` and, eight bytes on, `-` stand; or LF, `t` and, six bytes on, `f`; or LF, `e`, `x` and, seven on, `:` */
		fields = (w ^ LANES('\n')) |
			 (((w >> 8 | next << 56) | LANES(0x20)) ^ LANES('c')) |
			 (next ^ LANES('-'));
		encoded = (w ^ LANES('\n')) |
			  (((w >> 8 | next << 56) | LANES(0x20)) ^ LANES('t')) |
			  (((w >> 48 | next << 16) | LANES(0x20)) ^ LANES('f'));
		expects = (w ^ LANES('\n')) |
			  (((w >> 8 | next << 56) | LANES(0x20)) ^ LANES('e')) |
			  ((w >> 56 | next << 8) ^ LANES(':'));
		fields = zero_lanes(fields) | zero_lanes(encoded) | zero_lanes(expects);
		if (fields) {
			u32 header = from + lowest_lane(fields) + 1;

			in_user ? http_note_header_user(user + header, left - header, body) :
				  http_note_header(skb, at + header, left - header, body);
		}
		ends = zero_lanes(ends);
		if (ends)
			return from + lowest_lane(ends) + 4;
	}
	return 0;
}

__noinline int http_scan(struct __sk_buff *skb, u32 at, u32 left, struct http_body *body)
{
	return body ? http_scan_of(skb, 0, at, left, body, false) : 0;
}

__noinline int http_scan_user(u64 user, u32 left, struct http_body *body)
{
	return body ? http_scan_of(NULL, user, 0, left, body, true) : 0;
}

/* Extent of the chunk whose line begins here, perhaps with CHUNK_LAST; 0: it is none, or its line is not all here. */
static __always_inline int http_chunk_of(struct __sk_buff *skb, u64 user, u32 at, u32 left,
					 const bool in_user)
{
	u64 words[CHUNK_BYTES / 8] = {};
	u8 *bytes = (u8 *)words, stop = 0;
	u32 n = left < CHUNK_BYTES ? left : CHUNK_BYTES, size = 0, digits, line;
	u64 low, high;
	u16 end = 0;

	if (!left)
		return 0;
	CLAMP(n, CHUNK_BYTES);
	if (http_load(skb, user, at, words, n, in_user))
		return 0;
	for (digits = 0; digits < 8; digits++) {
		u8 value = bytes[digits] - '0';

		stop = bytes[digits];
		if (value > 9)
			value = (stop | 0x20) - 'a' + 10;
		if (value > 15 || (stop > '9' && value < 10))
			break;
		size = size << 4 | value;
	}
	if (!digits || size > CONTENT_LENGTH_MAX || (stop != '\r' && stop != ';' && stop != ' '))
		return 0;
	low = zero_lanes(words[0] ^ LANES('\n'));
	high = zero_lanes(words[1] ^ LANES('\n'));
	if (!low && !high)
		return 0;
	line = (low ? lowest_lane(low) : 8 + lowest_lane(high)) + 1;
	if (size)
		return line + size + 2;
	if (line + 2 > left || http_load(skb, user, at + line, &end, 2, in_user) || end != 0x0a0d)
		return 0; /* trailers, which nobody sends */
	return (line + 2) | CHUNK_LAST;
}

__noinline int http_chunk(struct __sk_buff *skb, u32 at, u32 left)
{
	return http_chunk_of(skb, 0, at, left, false);
}

__noinline int http_chunk_user(u64 user, u32 left)
{
	return http_chunk_of(NULL, user, 0, left, true);
}

/* Extent of a message of chunks, by what http_extent said, if it ends within these bytes; else 0. */
static __always_inline int http_whole_of(struct __sk_buff *skb, u64 user, u32 at, u32 left,
					 int extent, const bool in_user)
{
	u32 done = -extent - CHUNKED;

	for (u32 i = 0; i < CHUNKS && done < left; i++) {
		extent = in_user ? http_chunk_user(user + done, left - done) :
				   http_chunk(skb, at + done, left - done);
		if (extent <= 0)
			return 0;
		done += extent & ~CHUNK_LAST;
		if (extent & CHUNK_LAST)
			return done;
	}
	return 0;
}

__noinline int http_whole(struct __sk_buff *skb, u32 at, u32 left, int extent)
{
	return http_whole_of(skb, 0, at, left, extent, false);
}

__noinline int http_whole_user(u64 user, u32 left, int extent)
{
	return http_whole_of(NULL, user, 0, left, extent, true);
}

/*
 * Extent of the message that begins here: > 0: its length by Content-Length, perhaps with EXPECTS; < 0: minus the length of
 * its headers, which name no length, or of a message that is `bodiless` whatever they say; beyond -CHUNKED: minus their
 * length and CHUNKED; 0: the headers do not end here, or what they say of its end cannot be followed.
 */
static __always_inline int http_extent_of(struct __sk_buff *skb, u64 user, u32 at, u32 left,
					  bool bodiless, const bool in_user)
{
	struct http_body body = { .length = -1 };

	for (u32 from = 0; from < HEADERS_MAX && from < left; from += SCAN_BYTES) {
		int headers = in_user ? http_scan_user(user + from, left - from, &body) :
					http_scan(skb, at + from, left - from, &body);

		if (headers <= 0)
			continue;
		headers += from;
		if (bodiless || body.length == -1)
			return -headers;
		if (body.length == LENGTH_CHUNKED)
			return -headers - CHUNKED;
		return body.length >= 0 ? (headers + body.length) | body.expects : 0;
	}
	return 0;
}

__noinline int http_line(struct __sk_buff *skb, u32 at, u32 left)
{
	return http_line_of(skb, 0, at, left, false);
}

__noinline int http_extent(struct __sk_buff *skb, u32 at, u32 left, u32 bodiless)
{
	return http_extent_of(skb, 0, at, left, bodiless, false);
}

/* A line that was put together from pieces. */
__noinline int http_line_kept(struct http_conn *c)
{
	u32 n = c ? c->rec.line_bytes : 0, method, end = n - 1;
	u64 tail = 0;
	char *line;

	if (!c || n < 12 || n > HTTP_LINE)
		return 0;
	line = c->rec.line;
	for (method = 0; method < METHOD_MAX; method++)
		if (!is_method_byte(line[method]))
			break;
	if (method < 3 || method >= METHOD_MAX || line[method] != ' ')
		return 0;
	if (n == HTTP_LINE && line[HTTP_LINE - 1] >= ' ')
		return is_target(line[method + 1]);
	for (u32 i = 0; i < 8; i++)
		tail |= (u64)(u8)line[(end - 8 + i) & (HTTP_LINE - 1)] << i * 8;
	return is_version(tail);
}

/* The same in the memory of the current process. */
__noinline int http_line_user(u64 user, u32 left)
{
	return http_line_of(NULL, user, 0, left, true);
}

__noinline int http_extent_user(u64 user, u32 left, u32 bodiless)
{
	return http_extent_of(NULL, user, 0, left, bodiless, true);
}

/* "HTTP/1.x NNN": the status, 0: it is none. `line`: its first 16 bytes. */
static __always_inline u16 http_status(const u64 *line)
{
	u32 hundreds = ((line[1] >> 8) & 0xff) - '0';
	u32 tens = ((line[1] >> 16) & 0xff) - '0';
	u32 ones = ((line[1] >> 24) & 0xff) - '0';

	if ((line[0] & 0xffffffffffffffULL) != 0x2e312f50545448ULL || (line[1] & 0xff) != ' ')
		return 0;
	if (hundreds - 1 > 8 || tens > 9 || ones > 9)
		return 0;
	return hundreds * 100 + tens * 10 + ones;
}

#endif
