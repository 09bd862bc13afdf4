/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What capture writes: its records, its counters, and the copying of payloads into the ring, whose share for capture has a
 * limit. Readers: probes/capture/decode.ts, capture.ts.
 */
#ifndef SONDE_CAPTURE_COPY_H
#define SONDE_CAPTURE_COPY_H

#include "../../bpf/packet.bpf.h"

#define CHUNK_LARGE 16384
#define CHUNK_MEDIUM 4096
#define CHUNK_SMALL 1024
#define CHUNK_TINY 256
#define COOKIE_MADE_UP (1ULL << 52) /* above all that the kernel gives, below what a double holds exactly */
#define CHUNKS_MAX 12 /* of one packet: 64 KB are at most 4 large, 3 medium and one small */

enum capture_mode {
	CAPTURE_INGRESS = 1, /* requests to the selected, and its responses */
	CAPTURE_EGRESS = 2,  /* its own requests */
};

enum capture_flag {
	CAPTURE_OPEN = 1,         /* first record of a connection: `seq` and `ack_seq` are where its streams go on */
	CAPTURE_END = 2,          /* this side says no more */
	CAPTURE_RESET = 4,        /* with CAPTURE_END: by RST, so the other side neither */
	CAPTURE_BEYOND = 8,       /* beyond the limit of an exchange: `length` bytes that are not here */
	CAPTURE_PROVISIONAL = 16, /* the owner is not known yet */
	CAPTURE_LISTENER = 32,    /* came to the listening socket, with the end of the handshake: the cookie is made up */
	CAPTURE_OWNER = 64,       /* says who owns the connection, now that it is known */
	CAPTURE_DATA = 128,       /* a struct capture_chunk and its bytes; else a struct capture_record */
	CAPTURE_RESPONSE = 256,   /* with CAPTURE_DATA: of the side that answers */
};

enum capture_side {
	SIDE_REQUEST = 0, /* from the end that connected */
	SIDE_RESPONSE = 1,
};

/* The begin of a connection and what is known of it; its owner, once that is known; its end; what is not copied. */
struct capture_record {
	struct record_head head; /* flags: enum capture_flag */
	u64 cookie; /* of the socket */
	u64 time_ns; /* CLOCK_BOOTTIME */
	struct owner owner;
	u32 seq; /* of the first byte */
	u32 ack_seq; /* CAPTURE_OPEN: where the other side goes on */
	u32 length; /* CAPTURE_BEYOND: bytes of the stream that are not here */
	u32 netns;
	u16 local_port;
	u16 peer_port;
	u8 local_addr[16]; /* network order; IPv4 in the first four */
	u8 peer_addr[16];
	u8 family;
	u8 role; /* enum flow_role */
	u8 side; /* enum capture_side */
	u8 unused;
};

/* Before the bytes of a chunk. */
struct capture_chunk {
	struct record_head head; /* flags: CAPTURE_DATA, CAPTURE_RESPONSE */
	u64 cookie;
	u64 time_ns;
	u32 seq; /* of the first byte */
	u32 length; /* bytes behind this head */
};

/* What became of packets, bytes and records, and the entries and exits of the two programs. */
enum capture_count {
	CAPTURE_IN_ENTRY = 0,
	CAPTURE_IN_EXIT = 1,
	CAPTURE_OUT_ENTRY = 2,
	CAPTURE_OUT_EXIT = 3,
	CAPTURE_CHUNKS = 4,      /* data records in the ring */
	CAPTURE_CONTROLS = 5,    /* begins and ends in the ring */
	CAPTURE_LOST = 6,        /* records that found the ring, or capture's share of it, full */
	CAPTURE_BYTES = 7,       /* seen on selected connections */
	CAPTURE_COPIED = 8,
	CAPTURE_BYTES_BEYOND = 9, /* beyond the limit of their exchange */
	CAPTURE_BYTES_LOST = 10, /* of lost records, and of packets that could not be read */
	CAPTURE_COUNT_MAX = 11,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CAPTURE_COUNT_MAX);
	__type(key, u32);
	__type(value, u64);
} capture_counts SEC(".maps");

const volatile u32 capture_ring = 4 << 20; /* with so much in the ring, capture leaves it to the others */

static __always_inline void capture_count(u32 what, u64 number)
{
	u64 *slot = bpf_map_lookup_elem(&capture_counts, &what);

	if (slot)
		__sync_fetch_and_add(slot, number);
}

static __always_inline bool capture_crowded(void)
{
	return bpf_ringbuf_query(&sonde_ring, BPF_RB_AVAIL_DATA) > capture_ring;
}

static __always_inline void capture_lost(u32 bytes)
{
	capture_count(CAPTURE_LOST, 1);
	capture_count(CAPTURE_BYTES_LOST, bytes);
}

/* Without data: begins, ends, and what is beyond the limit. */
static __always_inline bool capture_control(struct capture_record *record)
{
	if (capture_crowded() || bpf_ringbuf_output(&sonde_ring, record, sizeof(*record),
						    ring_flags(sizeof(*record)))) {
		capture_count(CAPTURE_LOST, 1);
		return false;
	}
	count(COUNT_RECORDS);
	capture_count(CAPTURE_CONTROLS, 1);
	return true;
}

/* A record with the `size` bytes of room of its class, since the ring takes only sizes that the verifier knows. */
#define DEFINE_CAPTURE_COPY(class, size) \
struct capture_##class { \
	struct capture_chunk chunk; \
	u8 data[size]; \
}; \
static __always_inline bool capture_copy_##class(struct __sk_buff *skb, u32 offset, u32 length, \
						 struct capture_chunk *chunk) \
{ \
	struct capture_##class *record; \
	asm volatile("" : "+r"(length)); /* it is from 1 to `size`: the next line tells the verifier */ \
	length = ((length - 1) & (size - 1)) + 1; \
	record = bpf_ringbuf_reserve(&sonde_ring, sizeof(*record), 0); \
	if (!record) \
		return false; \
	chunk->length = length; \
	__builtin_memcpy(&record->chunk, chunk, sizeof(*chunk)); \
	if (bpf_skb_load_bytes(skb, offset, record->data, length)) { \
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP); \
		return false; \
	} \
	bpf_ringbuf_submit(record, ring_flags(sizeof(*record))); \
	return true; \
}

DEFINE_CAPTURE_COPY(large, CHUNK_LARGE)
DEFINE_CAPTURE_COPY(medium, CHUNK_MEDIUM)
DEFINE_CAPTURE_COPY(small, CHUNK_SMALL)
DEFINE_CAPTURE_COPY(tiny, CHUNK_TINY)

/*
 * Copies the next chunk of `left` bytes: full ones as long as they can be, so that little of the ring is empty room. The
 * number of bytes that it took; 0: no room. A global function, which the verifier proves once and not for each packet's
 * every chunk: its arguments are therefore numbers.
 */
__noinline int capture_copy(struct __sk_buff *skb, u32 offset, u32 left, u64 cookie, u64 seq_side)
{
	struct capture_chunk chunk = {
		.head = { .kind = RECORD_CAPTURE, .flags = CAPTURE_DATA },
		.cookie = cookie,
		.time_ns = bpf_ktime_get_boot_ns(),
		.seq = seq_side >> 1,
	};
	u32 size = left;
	bool done;

	if (capture_crowded())
		return 0;
	if (seq_side & 1)
		chunk.head.flags |= CAPTURE_RESPONSE;
	if (left >= CHUNK_LARGE) {
		size = CHUNK_LARGE;
		done = capture_copy_large(skb, offset, size, &chunk);
	} else if (left > CHUNK_SMALL) {
		size = left > CHUNK_MEDIUM ? CHUNK_MEDIUM : left;
		done = capture_copy_medium(skb, offset, size, &chunk);
	} else if (left > CHUNK_TINY) {
		done = capture_copy_small(skb, offset, size, &chunk);
	} else {
		done = capture_copy_tiny(skb, offset, size, &chunk);
	}
	if (!done)
		return 0;
	count(COUNT_RECORDS);
	capture_count(CAPTURE_CHUNKS, 1);
	return size;
}

/* `length` bytes of the payload from its beginning; what found no room is counted, and shows as a hole. */
static __always_inline void capture_payload(struct packet *packet, u32 length, u64 cookie, u8 side)
{
	u32 at = 0;

	for (int i = 0; i < CHUNKS_MAX && at < length; i++) {
		u64 seq = packet->seq + at;
		u32 size = capture_copy(packet->skb, packet->payload_offset + at, length - at,
					cookie, seq << 1 | side);

		if (!size)
			break;
		at += size;
	}
	capture_count(CAPTURE_COPIED, at);
	if (at < length)
		capture_lost(length - at);
}

#endif
