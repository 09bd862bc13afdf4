// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Puts into a ring what the test hands it, as if a probe had: 16 bytes, of which the first two are a length, then so many.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define HEAD_BYTES 16
#define RECORD_BYTES_MAX 2048

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} ring SEC(".maps");

struct room {
	__u8 bytes[RECORD_BYTES_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct room);
} rooms SEC(".maps");

SEC("tc")
int put_record(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct room *room = bpf_map_lookup_elem(&rooms, &zero);
	__u16 wanted;
	__u32 length;

	if (!room || bpf_skb_load_bytes(skb, 0, &wanted, sizeof(wanted)))
		return 1;
	length = *(volatile __u16 *)&wanted; /* read once: the verifier forgets what it knew of it on the stack */
	if (length == 0 || length > RECORD_BYTES_MAX)
		return 1;
	/* 6.1 does not learn from the first comparison that it is not 0: said again in a way that it follows. */
	asm volatile("" : "+r"(length)); /* for the compiler it would be the same number */
	length = ((length - 1) & (RECORD_BYTES_MAX - 1)) + 1;
	if (bpf_skb_load_bytes(skb, HEAD_BYTES, room->bytes, length))
		return 1;
	return bpf_ringbuf_output(&ring, room->bytes, length, 0) ? 2 : 0;
}
