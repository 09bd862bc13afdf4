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
#define SCAN_BYTES 512
#define HEADERS_MAX 4096 /* behind longer ones the next message is found by its line */
#define CONTENT_LENGTH_MAX (1 << 30)

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
		u64 control = (words[i] - LANES(0x20)) & ~words[i] & LANES(0x80);

		if (!control)
			continue;
		end = i * 8 + lowest_lane(control);
		break;
	}
	if (end >= n)
		return n == HTTP_LINE ? HTTP_LINE : LINE_INCOMPLETE;
	if (end < method + 9 || http_load(skb, user, at + end - 8, &tail, 8, in_user))
		return 0;
	/* "HTTP/1." and a digit; read as one little-endian word, as all machines here have it */
	if ((tail & 0xffffffffffffffULL) != 0x2e312f50545448ULL || (tail >> 57) != '0' >> 1)
		return 0;
	tail = 0;
	if (http_load(skb, user, at + end, &tail, 1, in_user) || (tail != '\r' && tail != '\n'))
		return 0;
	return end + 1;
}

/* Value of a Content-Length header that begins after this line feed; -1: another header. */
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
			return -1; /* a length as good as unknown */
		} else if (digits || (c != ' ' && c != '\t')) {
			break;
		}
	}
	return digits ? value : -1;
}

__noinline int http_content_length(struct __sk_buff *skb, u32 at, u32 left)
{
	return http_content_length_of(skb, 0, at, left, false);
}

__noinline int http_content_length_user(u64 user, u32 left)
{
	return http_content_length_of(NULL, user, 0, left, true);
}

/*
 * Looks through SCAN_BYTES for the end of the headers, and on the way for a Content-Length, which goes to `body`. The length
 * up to that end; 0: it is not here.
 */
static __always_inline int http_scan_of(struct __sk_buff *skb, u64 user, u32 at, u32 left,
					int *body, const bool in_user)
{
	u64 words[10];

	for (u32 i = 0; i < SCAN_BYTES / 8; i++) {
		u64 w, next, ends, fields;
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
		/* and where LF, `c` and, eight bytes on, `-` stand */
		fields = (w ^ LANES('\n')) |
			 (((w >> 8 | next << 56) | LANES(0x20)) ^ LANES('c')) |
			 (next ^ LANES('-'));
		fields = zero_lanes(fields);
		if (fields) {
			u32 header = from + lowest_lane(fields) + 1;
			int value = in_user ?
				http_content_length_user(user + header, left - header) :
				http_content_length(skb, at + header, left - header);

			if (value >= 0)
				*body = value;
		}
		ends = zero_lanes(ends);
		if (ends)
			return from + lowest_lane(ends) + 4;
	}
	return 0;
}

__noinline int http_scan(struct __sk_buff *skb, u32 at, u32 left, int *body)
{
	return body ? http_scan_of(skb, 0, at, left, body, false) : 0;
}

__noinline int http_scan_user(u64 user, u32 left, int *body)
{
	return body ? http_scan_of(NULL, user, 0, left, body, true) : 0;
}

/*
 * Extent of the message that begins here: > 0: its length by Content-Length; < 0: minus the length of its headers, which
 * name no length, or of a message that is `bodiless` whatever they say; 0: the headers do not end here.
 */
static __always_inline int http_extent_of(struct __sk_buff *skb, u64 user, u32 at, u32 left,
					  bool bodiless, const bool in_user)
{
	int body = -1;

	for (u32 from = 0; from < HEADERS_MAX && from < left; from += SCAN_BYTES) {
		int headers = in_user ? http_scan_user(user + from, left - from, &body) :
					http_scan(skb, at + from, left - from, &body);

		if (headers <= 0)
			continue;
		headers += from;
		return body >= 0 && !bodiless ? headers + body : -headers;
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
