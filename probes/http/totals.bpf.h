/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Requests that are frequent are summed in the kernel: a run of like requests goes to the totals of its kind (owner, ends,
 * line, status) instead of the ring, and user space gets one entry an interval for what would be thousands of records.
 * What is rare goes to the ring, record by record: an entry costs more than that, and paths may all differ.
 * Reader: probes/http/totals.ts.
 */
#ifndef SONDE_HTTP_TOTALS_H
#define SONDE_HTTP_TOTALS_H

#include "../../bpf/histogram.bpf.h"
#include "../../bpf/turns.bpf.h"
#include "../nat/nat.bpf.h"
#include "record.bpf.h"

#define HTTP_KINDS 2048 /* with totals within one interval */
#define HTTP_ADMIT 8 /* one of so many runs that are not full begins totals: what comes often is soon in */
#define HTTP_TTFB_MIN 512 /* ns; runs with times not between these go to the ring */
#define HTTP_TTFB_MAX HTTP_COARSE
#define HTTP_BUCKET_FIRST 72 /* of 2^(i / 8) ns: 512 ns, */
#define HTTP_BUCKETS 176 /* and up to 2^31 ns */

/* Set from configuration, as the decoder's: client ports from here on are one. */
const volatile u32 http_ephemeral_port = 10001;

/*
 * What a record says of its run: struct http_record up to `entry`, with `first` and `entries` 0 and the client's port folded,
 * unless NAT may lead the peer elsewhere: where, goes by the connection.
 */
struct http_key {
	u64 words[__builtin_offsetof(struct http_record, entry) / 8];
};

_Static_assert(sizeof(struct http_key) == __builtin_offsetof(struct http_record, entry), "no rest");

struct http_total {
	struct http_rest rest;
	u64 ttfb_max;
	u32 buckets[HTTP_BUCKETS]; /* of ttfb: OpenTelemetry's scale 3, from HTTP_BUCKET_FIRST on */
};

DEFINE_TURNS_FLAGS(http_totals, struct http_key, struct http_total, HTTP_KINDS, BPF_F_NO_PREALLOC)

/* Zeros: a value is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct http_total);
} http_no_total SEC(".maps");

/* Eighths of a doubling: how many of 2^(k / 8), k from 1 to 7, lie below `mantissa`, which has its highest bit set. */
static __always_inline u32 http_eighths(u32 mantissa)
{
	if (mantissa > 0xb504f333) {
		if (mantissa > 0xd744fcca)
			return mantissa > 0xeac0c6e7 ? 7 : 6;
		return mantissa > 0xc5672a11 ? 5 : 4;
	}
	if (mantissa > 0x9837f051)
		return mantissa > 0xa5fed6a9 ? 3 : 2;
	return mantissa > 0x8b95c1e3;
}

/* `ttfb` from HTTP_TTFB_MIN to below HTTP_TTFB_MAX. Bounds of buckets are inclusive: a power of two ends one. */
static __always_inline u32 http_bucket(u32 ttfb)
{
	u32 bit = highest_bit(ttfb);
	u32 mantissa = ttfb << (31 - bit);

	if (mantissa == 0x80000000)
		return bit * 8 - 1 - HTTP_BUCKET_FIRST;
	return bit * 8 + http_eighths(mantissa) - HTTP_BUCKET_FIRST;
}

struct http_sums {
	struct http_rest rest;
	u64 ttfb_max;
	u64 unfit; /* not 0: some time lies beyond the buckets of totals */
};

/* Global: what it does to the sums is not followed by the verifier from entry to entry. */
__noinline int http_sum_entry(struct http_entry *entry, struct http_sums *sums)
{
	u32 ttfb;

	if (!entry || !sums)
		return 0;
	ttfb = entry->ttfb;
	if (ttfb != HTTP_NO_MESSAGE)
		sums->rest.requests++;
	if (ttfb < HTTP_NO_RESPONSE) {
		if (ttfb <= HTTP_TTFB_MIN || ttfb >= HTTP_TTFB_MAX)
			sums->unfit = 1;
		sums->rest.answered++;
		sums->rest.ttfb_ns += http_ns(ttfb);
		if (ttfb > sums->ttfb_max)
			sums->ttfb_max = ttfb;
	}
	sums->rest.duration_ns += http_ns(entry->duration);
	sums->rest.bytes_request += entry->bytes_request;
	sums->rest.bytes_response += entry->bytes_response;
	return 0;
}

static __always_inline void http_sum_run(struct http_record *rec, struct http_sums *sums)
{
	for (u32 n = 0; n < HTTP_RUN; n++) {
		u32 i = rec->first + n;

		asm volatile("" : "+r"(i)); /* else the compiler steps a pointer, whose bounds are not seen */
		if (i >= rec->entries || i >= HTTP_RUN)
			break;
		http_sum_entry(&rec->entry[i], sums);
	}
}

static __always_inline void http_rest_add(struct http_rest *to, struct http_rest *sum)
{
	TURN_ADD(to->requests, sum->requests);
	TURN_ADD(to->answered, sum->answered);
	TURN_ADD(to->ttfb_ns, sum->ttfb_ns);
	TURN_ADD(to->duration_ns, sum->duration_ns);
	TURN_ADD(to->bytes_request, sum->bytes_request);
	TURN_ADD(to->bytes_response, sum->bytes_response);
}

/* Global: proved once, not for each entry. */
__noinline int http_add_bucket(struct http_entry *entry, struct http_total *total)
{
	u64 bucket;

	if (!entry || !total || entry->ttfb >= HTTP_NO_RESPONSE)
		return 0;
	bucket = http_bucket(entry->ttfb);
	asm volatile("" : "+r"(bucket));
	if (bucket < HTTP_BUCKETS)
		__sync_fetch_and_add(&total->buckets[bucket], 1);
	return 0;
}

static __always_inline void http_add_buckets(struct http_record *rec, struct http_total *total)
{
	for (u32 n = 0; n < HTTP_RUN; n++) {
		u32 i = rec->first + n;

		asm volatile("" : "+r"(i));
		if (i >= rec->entries || i >= HTTP_RUN)
			break;
		http_add_bucket(&rec->entry[i], total);
	}
}

static __always_inline void http_total_max(struct http_total *total, u64 max)
{
	for (int i = 0; i < 4; i++) {
		u64 known = *(volatile u64 *)&total->ttfb_max;

		if (known >= max ||
		    __sync_val_compare_and_swap(&total->ttfb_max, known, max) == known)
			return;
	}
}

/* Before 6.2 a key must lie on the stack, which is too small, or in a map. One for each program that may interrupt another. */
struct http_scratch {
	u64 busy;
	struct http_key key;
	struct nat_room nat;
};

#define HTTP_SCRATCHES 4

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HTTP_SCRATCHES);
	__type(key, u32);
	__type(value, struct http_scratch);
} http_scratches SEC(".maps");

static __always_inline struct http_scratch *http_take_scratch(void)
{
	for (u32 i = 0; i < HTTP_SCRATCHES; i++) {
		u32 key = i; /* the verifier loses count of what is in memory */
		struct http_scratch *scratch = bpf_map_lookup_elem(&http_scratches, &key);

		if (scratch && !__sync_val_compare_and_swap(&scratch->busy, 0, 1))
			return scratch;
	}
	return NULL;
}

static __always_inline void http_fill_key(struct http_record *rec, struct http_key *key, bool led)
{
	struct http_record *kind = (struct http_record *)key; /* as far as `entry` */

	__builtin_memcpy(key, rec, sizeof(*key));
	kind->first = 0;
	kind->entries = 0;
	if (rec->role == ROLE_OUTGOING && !led && rec->local_port >= http_ephemeral_port)
		kind->local_port = 0;
	if (rec->role == ROLE_INCOMING && rec->peer_port >= http_ephemeral_port)
		kind->peer_port = 0;
}

/* `rare`: the kind has no more than its connection's requests; only full runs are worth an entry. */
static __always_inline struct http_total *http_total_of(struct http_key *key, bool full, bool rare)
{
	struct http_total *total = http_totals_find(key), *fresh;
	u32 zero = 0;

	if (total || !(full || (!rare && bpf_get_prandom_u32() % HTTP_ADMIT == 0)))
		return total;
	fresh = bpf_map_lookup_elem(&http_no_total, &zero);
	return fresh ? http_totals_make(key, fresh) : NULL; /* NULL: full, the ring takes it */
}

/* With a stack of its own. */
static __noinline int http_may_be_led(struct http_record *rec, struct nat_room *room)
{
	return nat_may_lead(room, (u32 *)rec->peer_addr, rec->peer_port);
}

/* Producer: the claimed run goes to the totals of its kind; false: nothing was done. */
static __always_inline bool http_add_total(struct http_record *rec, struct http_sums *sums)
{
	struct http_scratch *scratch;
	struct http_total *total;
	bool led;

	if (sums->unfit)
		return false;
	scratch = http_take_scratch();
	if (!scratch)
		return false;
	led = nat_enabled && rec->role == ROLE_OUTGOING &&
	      http_may_be_led(rec, &scratch->nat);
	http_fill_key(rec, &scratch->key, led);
	total = http_total_of(&scratch->key, rec->entries - rec->first == HTTP_RUN, led);
	scratch->busy = 0;
	if (!total)
		return false;
	http_rest_add(&total->rest, &sums->rest);
	http_total_max(total, sums->ttfb_max);
	http_add_buckets(rec, total);
	return true;
}

#endif
