/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the `http2` source reports, its state of a connection, and the rules of frames, which are the same as in frames.ts
 * (http2_want, http2_is_frame, http2_fits). Decoder of the records: probes/http2/decode.ts.
 */
#ifndef SONDE_HTTP2_FRAME_H
#define SONDE_HTTP2_FRAME_H

#include "../../bpf/ends.bpf.h"
#include "../tcp/conn.bpf.h"

#define HTTP2_HEAD_BYTES 9
#define HTTP2_WANT_MAX 16384 /* payload of one frame that is sent; the default limit of the peers themselves */
#define HTTP2_DATA 8192 /* bytes in one record */
#define HTTP2_RAW_MAX (512 << 10) /* bytes that are sent as they are, for one hole */
#define HTTP2_RAW_STEPS 16 /* records of one packet */
#define HTTP2_STEPS 32 /* of one packet, */
#define HTTP2_STEPS_TIMES 64 /* so often: a frame takes two or three */
#define HTTP2_CHAIN 8 /* frames that are looked at to know a connection by */
#define HTTP2_SLOTS 4 /* packets in work on one CPU: a softirq may interrupt a call that sends */
#define HTTP2_SPINS 32 /* tries to get a direction that another CPU works on */
#define HTTP2_PREFACE_BYTES 24
#define HTTP2_PREFACE_WORD 0x5448202a20495250ULL /* "PRI * HT", read as one little-endian word */

enum http2_type {
	HTTP2_DATA_FRAME = 0,
	HTTP2_HEADERS = 1,
	HTTP2_PRIORITY = 2,
	HTTP2_RST_STREAM = 3,
	HTTP2_SETTINGS = 4,
	HTTP2_PUSH_PROMISE = 5,
	HTTP2_PING = 6,
	HTTP2_GOAWAY = 7,
	HTTP2_WINDOW_UPDATE = 8,
	HTTP2_CONTINUATION = 9,
};

enum http2_frame_flag {
	HTTP2_END_STREAM = 1, /* of SETTINGS and PING: ACK */
	HTTP2_END_HEADERS = 4,
	HTTP2_PADDED = 8,
	HTTP2_HAS_PRIORITY = 32,
};

enum http2_flag {
	HTTP2_EGRESS = 1, /* this end sent it */
	HTTP2_BEGIN = 2, /* the first of this direction, at the begin of the connection: nothing was missed */
	HTTP2_AT_HEAD = 4, /* the data begin with the head of a frame */
	HTTP2_RESYNC = 8, /* joined here: this direction was not followed before */
	HTTP2_END = 16, /* this direction has ended */
	HTTP2_RESET = 32, /* so has the connection */
	HTTP2_CLIENT = 64, /* the preface shows that this end is the client, */
	HTTP2_SERVER = 128, /* or the server */
	HTTP2_RAW = 256, /* all bytes from `to - length` to `to`: of a packet that came before another one */
	HTTP2_HOLE = 512, /* bytes before these are still to come */
	HTTP2_TLS = 1024, /* plain text from within a TLS library */
	HTTP2_PARKED = 2048, /* came on the listening socket: the connection's own is known by its ends alone */
	HTTP2_ADOPTED = 4096, /* this connection has such records */
	HTTP2_UPGRADE = 8192, /* the line of the request of HTTP/1 that stream 1 answers; its begin, and from `after` to `to` its bytes */
};

struct http2_record {
	struct record_head head; /* flags: enum http2_flag */
	struct owner owner;
	u64 cookie;
	u64 now_ns;
	u32 after; /* sequence number: `to` of the record before this one. What lies between them is of no interest */
	u32 to; /* of the byte behind the last that this record tells of; the payload that no record has is left out */
	u32 skip; /* at `to`: bytes to come of a payload that is left out */
	u32 netns;
	u8 local_addr[16];
	u8 peer_addr[16];
	u16 local_port;
	u16 peer_port;
	u8 family;
	u8 role;
	u16 length; /* of the bytes that follow */
};

enum http2_state {
	HTTP2_UNKNOWN = 0, /* not known to be HTTP/2 */
	HTTP2_WAITING = 1, /* the connection begins; this direction has sent nothing yet */
	HTTP2_FOLLOWED = 2,
	HTTP2_LOST = 3, /* until a packet begins with frames */
	HTTP2_SORTING = 4, /* the same, and meanwhile all bytes are sent: packets came in the wrong order */
};

/* One direction of a connection. */
struct http2_way {
	u32 next; /* sequence number of the next byte */
	u32 told; /* where the last record ended */
	u32 want; /* bytes of the payload in hand that are sent, */
	u32 skip; /* and behind them those that are not */
	u32 hole_from; /* what is between is still to come; equal: nothing is */
	u32 hole_to;
	u32 raw_left; /* bytes that may still be sent as they are, for this hole */
	u8 head[32]; /* the beginning of a head that goes on in the next packet; more than it takes, for the verifier */
	u8 have;
	u8 state; /* enum http2_state */
	u8 ends_stream; /* `skip` is the last of a stream: its end is told */
	u8 ended;
	u8 fits; /* packets in a row that began with frames */
	u8 upgrades; /* of HTTP/1 until the preface comes */
	u8 unused[2];
};

/* Both directions. */
struct http2_talk {
	struct http2_way way[2]; /* 0: ingress */
	u32 role_flags; /* HTTP2_CLIENT or HTTP2_SERVER; HTTP2_ADOPTED */
	u32 unused;
};

struct http2_conn {
	struct bpf_spin_lock lock; /* of `taken` alone: no helper may be called under it */
	u32 taken[2]; /* a packet of this direction is in work; others wait for it */
	struct http2_talk talk;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct http2_conn);
} http2_conns SEC(".maps");

/* Connections that began on the listening socket, until their own has data. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct conn_ends);
	__type(value, struct http2_talk);
} http2_parked SEC(".maps");

struct http2_parking {
	u64 last_ns; /* when data were parked; 0: never. Nobody looks into http2_parked then */
	struct http2_talk blank;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct http2_parking);
} http2_parking SEC(".maps");

/* A packet in work. */
struct http2_work {
	u32 busy;
	u32 at; /* in the skb */
	u32 left;
	u32 seq;
	u32 interest; /* something in the record is worth sending */
	u32 unused;
	struct http2_way way;
	struct http2_record rec;
	u8 data[2 * HTTP2_DATA]; /* goes with the record; the second half is room for the verifier */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HTTP2_SLOTS);
	__type(key, u32);
	__type(value, struct http2_work);
} http2_works SEC(".maps");

struct http2_head {
	u32 length;
	u32 stream;
	u8 type;
	u8 flags;
};

static __always_inline void http2_read_head(const u8 *bytes, struct http2_head *head)
{
	head->length = bytes[0] << 16 | bytes[1] << 8 | bytes[2];
	head->type = bytes[3];
	head->flags = bytes[4];
	head->stream = (bytes[5] & 0x7f) << 24 | bytes[6] << 16 | bytes[7] << 8 | bytes[8];
}

/* False: no peer sends a frame of this form. Types beyond those of the standard are extensions, and pass. */
static __always_inline bool http2_is_frame(const struct http2_head *head)
{
	u32 length = head->length;

	switch (head->type) {
	case HTTP2_DATA_FRAME:
	case HTTP2_HEADERS:
		return head->stream && (!(head->flags & HTTP2_PADDED) || length);
	case HTTP2_CONTINUATION:
		return head->stream;
	case HTTP2_PRIORITY:
		return head->stream && length == 5;
	case HTTP2_RST_STREAM:
		return head->stream && length == 4;
	case HTTP2_SETTINGS:
		return !head->stream && length % 6 == 0 &&
		       (!(head->flags & HTTP2_END_STREAM) || !length);
	case HTTP2_PUSH_PROMISE:
		return head->stream && length >= 4;
	case HTTP2_PING:
		return !head->stream && length == 8;
	case HTTP2_GOAWAY:
		return !head->stream && length >= 8;
	case HTTP2_WINDOW_UPDATE:
		return length == 4;
	}
	return true;
}

/* The flags that each type of frame has. */
static __always_inline u8 http2_flags_of(u8 type)
{
	switch (type) {
	case HTTP2_DATA_FRAME:
		return HTTP2_END_STREAM | HTTP2_PADDED;
	case HTTP2_HEADERS:
		return HTTP2_END_STREAM | HTTP2_END_HEADERS | HTTP2_PADDED | HTTP2_HAS_PRIORITY;
	case HTTP2_PUSH_PROMISE:
		return HTTP2_END_HEADERS | HTTP2_PADDED;
	case HTTP2_SETTINGS:
	case HTTP2_PING:
		return HTTP2_END_STREAM;
	case HTTP2_CONTINUATION:
		return HTTP2_END_HEADERS;
	}
	return 0;
}

/* Payload bytes of a frame that are sent to user space: the first ones. */
static __always_inline u32 http2_want(const struct http2_head *head)
{
	u32 length = head->length;

	switch (head->type) {
	case HTTP2_DATA_FRAME:
		return head->flags & HTTP2_PADDED && length;
	case HTTP2_GOAWAY:
		return length < 8 ? length : 8;
	case HTTP2_HEADERS:
	case HTTP2_CONTINUATION:
	case HTTP2_PUSH_PROMISE:
	case HTTP2_SETTINGS:
	case HTTP2_RST_STREAM:
		return length < HTTP2_WANT_MAX ? length : HTTP2_WANT_MAX;
	}
	return 0;
}

static __always_inline bool http2_is_of_interest(u8 type)
{
	return type <= HTTP2_HEADERS || type == HTTP2_RST_STREAM || type == HTTP2_PUSH_PROMISE ||
	       type == HTTP2_CONTINUATION;
}

/* From a packet, or from the current process's memory. */
static __always_inline long http2_load(struct __sk_buff *skb, u64 user, u32 at, void *to, u32 size,
				       const bool in_user)
{
	if (in_user)
		return bpf_probe_read_user(to, size, (void *)(user + at));
	return bpf_skb_load_bytes(skb, at, to, size);
}

/* The whole length of the frame at `at`, with its head; 0: none of standard type, form and flags. */
static __always_inline int http2_frame_of(struct __sk_buff *skb, u64 user, u32 at, u32 first,
					  const bool in_user)
{
	struct http2_head head;
	u8 bytes[16] = {};

	if (http2_load(skb, user, at, bytes, HTTP2_HEAD_BYTES, in_user))
		return 0;
	http2_read_head(bytes, &head);
	if (head.length > HTTP2_WANT_MAX || head.type > HTTP2_CONTINUATION || bytes[5] & 0x80 ||
	    head.flags & ~http2_flags_of(head.type) || !http2_is_frame(&head) ||
	    (first && head.type == HTTP2_CONTINUATION))
		return 0;
	return HTTP2_HEAD_BYTES + head.length;
}

/* Global functions, which the verifier proves once, as all below. */
__noinline int http2_frame_at(struct __sk_buff *skb, u32 at, u32 first)
{
	return http2_frame_of(skb, 0, at, first, false);
}

__noinline int http2_user_frame_at(u64 user, u32 at, u32 first)
{
	return http2_frame_of(NULL, user, at, first, true);
}

/*
 * 1: these bytes begin with frames beyond reasonable doubt: each where the one before it ends, up to the end of the packet or
 * HTTP2_CHAIN; a single one must end just where the packet ends.
 */
static __always_inline int http2_fits_of(struct __sk_buff *skb, u64 user, u32 at, u32 left,
					 const bool in_user)
{
	for (int n = 0; n < HTTP2_CHAIN; n++) {
		u32 length;

		if (!left)
			return n > 0;
		if (left < HTTP2_HEAD_BYTES)
			return n >= 2;
		length = in_user ? http2_user_frame_at(user, at, !n) :
				   http2_frame_at(skb, at, !n);
		if (!length)
			return 0;
		if (length > left)
			return n > 0;
		at += length;
		left -= length;
	}
	return 1;
}

__noinline int http2_fits(struct __sk_buff *skb, u32 at, u32 left)
{
	return http2_fits_of(skb, 0, at, left, false);
}

__noinline int http2_user_fits(u64 user, u32 left)
{
	return http2_fits_of(NULL, user, 0, left, true);
}

#endif
