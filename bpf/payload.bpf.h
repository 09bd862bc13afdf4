/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Records of packets with a part of the payload behind them, for probes that read in user space what is said. A probe has a
 * struct <probe>_record with a field `captured`, <probe>_fill for it, and <probe>_count_lost for one that finds the ring full.
 */
#ifndef SONDE_PAYLOAD_H
#define SONDE_PAYLOAD_H

#include "packet.bpf.h"
#include "ring.bpf.h"

/*
 * Reserves, fills and submits a record with room for `room` bytes, a power of two, of which `length` is not 0. `at`: where in
 * the payload they begin. A size for each, since a reserved record has a constant one. The length is masked since older
 * verifiers do not see its bounds otherwise.
 */
#define DEFINE_SEND(probe, name, room) \
static __always_inline void probe##_send_##name(struct packet *packet, u32 at, u32 length) \
{ \
	struct { \
		struct probe##_record record; \
		u8 payload[room]; \
	} *out = bpf_ringbuf_reserve(&sonde_ring, sizeof(*out), 0); \
	u32 captured = length < room ? length : room; \
	if (!out) { \
		probe##_count_lost(); \
		return; \
	} \
	captured -= 1; \
	asm volatile("" : "+r"(captured)); \
	captured = (captured & (room - 1)) + 1; \
	probe##_fill(packet, &out->record, at, length, captured); \
	if (bpf_skb_load_bytes(packet->skb, packet->payload_offset + at, out->payload, captured)) \
		out->record.captured = 0; \
	count(COUNT_RECORDS); \
	bpf_ringbuf_submit(out, ring_flags(sizeof(*out))); \
}

/*
 * A packet that is not cut into segments yet: all of it goes, in parts of `size`, as if these were segments. What is left
 * after the last part is only told by its length. <probe>_send_part is a global function: the verifier proves it once, not in
 * each turn of the loop. Hence it parses the packet again.
 */
#define DEFINE_SEND_PARTS(probe, size, parts_max) \
__noinline int probe##_send_parts(struct __sk_buff *skb, u32 ingress, u32 length) \
{ \
	u32 at = 0; \
	for (int i = 0; i < parts_max - 1 && length - at > size; i++) { \
		probe##_send_part(skb, ingress, at, size); \
		at += size; \
	} \
	return probe##_send_part(skb, ingress, at, length - at); \
}

#endif
