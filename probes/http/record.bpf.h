/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the `http` source reports, and the state of one connection. Requests that are alike (same request line, same
 * status) are kept in a list, the run; a record carries a whole run, if it does not go to the totals (totals.bpf.h). Decoder: probes/http/decode.ts.
 *
 * Who may do what, so that nothing is lost and nothing counts twice:
 * - packets of the request's direction begin and finish messages and append to the run: the producer;
 * - packets of the other direction note status and times of the message that waits for them;
 * - the sweep copies first and claims last, by one compare-and-exchange each on `claimed` (entries of the run) and on
 *   `message` (a message that has its response but no successor yet). What moved meanwhile makes the claim fail.
 */
#ifndef SONDE_HTTP_RECORD_H
#define SONDE_HTTP_RECORD_H

#include "../../bpf/ends.bpf.h"

#define HTTP_LINE 128 /* bytes of the request line that are kept, its end included */
#define HTTP_RUN 24
#define HTTP_NO_MESSAGE 0xffffffff /* `ttfb` of an entry that only adds bytes and time to a message reported before */
#define HTTP_NO_RESPONSE 0xfffffffe /* `ttfb` of a request that got no response */
#define HTTP_COARSE 0x80000000 /* a time of 2^31 ns or more: the other bits are units of 1024 ns */
#define HTTP_TIME_MAX 0xfffffffd

enum http_flag {
	HTTP_OVERFLOW = 1, /* struct http_rest_record: totals of what found no room */
	HTTP_MIXED = 2, /* requests sent ahead of their responses, with more than two kinds of line: none is named */
	HTTP_TLS = 4,
};

/* One request; times as in HTTP_COARSE. */
struct http_entry {
	u32 ttfb; /* ns from the first byte of the request to the first of the final response */
	u32 duration; /* ns until the last byte of the response so far */
	u32 bytes_request;
	u32 bytes_response;
};

static __always_inline u64 http_ns(u32 time)
{
	return time & HTTP_COARSE ? (u64)(time & ~HTTP_COARSE) << 10 : time;
}

struct http_record {
	struct record_head head; /* flags: enum http_flag */
	struct owner owner;
	u32 netns;
	u8 local_addr[16];
	u8 peer_addr[16];
	u16 local_port;
	u16 peer_port;
	u8 family;
	u8 role; /* ROLE_INCOMING: this end serves */
	u16 status; /* 0: no response */
	u8 line_bytes; /* HTTP_LINE and no CR or LF at the end: it was longer */
	u8 first; /* entries before this one were reported */
	u8 entries;
	u8 unused;
	char line[HTTP_LINE];
	struct http_entry entry[HTTP_RUN];
};

#define HTTP_CLASSES 6 /* by the first digit of the status; 0: none, or strange */

/* Totals of records that found the ring full, and of requests whose connection found the map full. */
struct http_rest {
	u64 requests;
	u64 ttfb_ns;
	u64 duration_ns;
	u64 bytes_request;
	u64 bytes_response;
	u64 answered; /* requests that are in ttfb_ns */
};

struct http_rest_record {
	struct record_head head;
	u8 role;
	u8 status_class;
	u8 unused[6];
	struct http_rest rest;
};

enum http_phase {
	HTTP_DONE = 0, /* reported by the sweep, or none yet */
	HTTP_REQUEST = 1, /* waits for the response */
	HTTP_RESPONSE = 2,
};

/* What the sweep has reported of a message. */
struct http_mark {
	u64 message;
	u64 ns;
	u32 request;
	u32 response;
};

enum http_life {
	HTTP_LIVE = 0,
	HTTP_SPARE = 1, /* its socket has closed: the next one at this address, or with these ports, has it */
	HTTP_OLD_SPARE = 2, /* not taken since the sweep before */
	HTTP_GONE = 3, /* the sweep is deleting it */
	HTTP_REVIVED = 4, /* it is being made anew */
};

struct http_conn {
	u64 claimed; /* generation of the run << 32 | entries that the sweep has reported */
	u64 message; /* number << 2 | enum http_phase */
	u64 request_ns;
	u64 response_ns;
	u64 last_ns;
	u64 sk; /* address of its struct sock: the key here and of `tcp_conns` */
	u64 cookie;
	struct http_mark mark[2]; /* by the last bit of the message's number: the sweep writes the one that is not in use */
	u32 entries; /* in the run */
	u32 request_from; /* sequence numbers: where the message begins, */
	u32 request_next; /* where the next one will, if request_known, */
	u32 request_end; /* and the end of what was seen */
	u32 response_from;
	u32 response_next;
	u32 response_end;
	u32 whole_length; /* a segment of this length with this line is one whole request */
	u32 queued; /* requests sent ahead that have the same line, */
	u32 queued_other; /* and those after them, with `queued_line` */
	u32 pieces_seq; /* next piece of a split request line */
	u16 status;
	u8 off; /* speaks something else by now */
	u8 request_known;
	u8 response_loose; /* a response begins with any segment that looks like it */
	u8 pieces; /* bytes of a split request line that are in rec.line */
	u8 status_pieces; /* bytes of a split status line */
	u8 mixed;
	u8 queued_length;
	u8 in_slot; /* of `http_slots`: never made, never freed */
	u8 response_unset; /* where responses begin is not known before their first byte */
	u8 request_parts; /* of PARTIAL_BYTES, that the message has had before request_from */
	u8 expects; /* the body of the last request waits for a 100 */
	u8 unused[3];
	u32 life; /* enum http_life; changed by compare-and-exchange alone */
	u64 status_line[2];
	u64 queued_line[HTTP_LINE / 8];
	struct http_record rec;
};

/*
 * An entry for each connection. The first place for it follows from its ports, and is found by a comparison; of two that
 * would have the same one, the second has an entry in `http_conns`: a look-up there costs some 40 ns a packet, and one for each
 * short connection interrupts a CPU every few of them, to get and free memory.
 */
#define HTTP_SLOT_BITS 8
#define HTTP_SLOTS (1 << HTTP_SLOT_BITS)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HTTP_SLOTS);
	__type(key, u32);
	__type(value, struct http_conn);
} http_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* configuration: collector.maps.sockets_max */
	__uint(map_flags, BPF_F_NO_PREALLOC); /* memory only for what is open */
	__type(key, u64); /* address of the struct sock */
	__type(value, struct http_conn);
} http_conns SEC(".maps");

/* How many spare entries there are in `http_conns`: the kernel gives the address of a closed socket to one of the next. */
#define HTTP_SPARES 1024

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} http_spares SEC(".maps");

/* Zeros: an entry is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct http_conn);
} http_blank SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ROLE_MAX * HTTP_CLASSES);
	__type(key, u32);
	__type(value, struct http_rest);
} http_rests SEC(".maps");

/* A request that came on the listening socket (TCP_DEFER_ACCEPT; data with the last step of the handshake). */
struct http_parked {
	u64 request_ns;
	u32 seq;
	u32 length;
	u32 line_bytes;
	u32 message_length; /* 0: unknown */
	u64 line[HTTP_LINE / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct conn_ends);
	__type(value, struct http_parked);
} http_parked SEC(".maps");

#endif
