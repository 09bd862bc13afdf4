/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The life of a connection's entry: taken for its first request, spare when its socket has closed. One of `http_slots` then
 * waits for the next connection whose ports lead there; one of `http_conns` for the next socket at that address, and is
 * deleted by the sweep if none came.
 */
#ifndef SONDE_HTTP_ENTRY_H
#define SONDE_HTTP_ENTRY_H

#include "record.bpf.h"

static __always_inline bool http_turn(struct http_conn *c, u32 old, u32 now)
{
	return __sync_val_compare_and_swap(&c->life, old, now) == old;
}

static __always_inline void http_spares_add(s64 n)
{
	u32 zero = 0;
	u64 *spares = bpf_map_lookup_elem(&http_spares, &zero);

	if (spares)
		__sync_fetch_and_add(spares, n);
}

static __always_inline u32 http_slot_of(u32 local_port, u32 peer_port)
{
	return ((local_port << 16 | peer_port) * 0x9e3779b1) >> (32 - HTTP_SLOT_BITS);
}

/* The place of a socket that a packet came with: by what it says itself, since NAT changes what packets say. */
static __always_inline u32 http_slot_of_packet(struct bpf_sock *sk)
{
	return http_slot_of(SK_WORD(sk, src_port) & 0xffff, bpf_ntohs((u16)SK_WORD(sk, dst_port)));
}

/*
 * The entry of the socket at the address `socket`, live or spare; `key` points to the same address. The verifier lets a program compare an
 * address that it may not calculate with.
 */
#define HTTP_ENTRY(socket, slot, key) \
({ \
	u32 place = slot; \
	struct http_conn *found = bpf_map_lookup_elem(&http_slots, &place); \
	if (!found || found->sk != (u64)(socket) || found->life != HTTP_LIVE) \
		found = bpf_map_lookup_elem(&http_conns, key); \
	found; \
})

/*
 * A spare entry begins anew. Its numbers go on, so that what a sweep has read of it before cannot be claimed: there is no run
 * and no message since its end.
 */
static __always_inline void http_renew(struct http_conn *c, u64 sk, bool in_slot)
{
	const u32 from = __builtin_offsetof(struct http_conn, request_ns);
	const u32 to = __builtin_offsetof(struct http_conn, life);

	__builtin_memset((char *)c + from, 0, to - from);
	__builtin_memset(c->status_line, 0, sizeof(c->status_line));
	__builtin_memset(&c->rec, 0, __builtin_offsetof(struct http_record, entry));
	c->in_slot = in_slot;
	c->sk = sk;
	barrier(); /* without a cookie no sweep takes it for ended */
	http_turn(c, HTTP_REVIVED, HTTP_LIVE);
}

static __always_inline bool http_revive(struct http_conn *c, u64 sk)
{
	if (!http_turn(c, HTTP_SPARE, HTTP_REVIVED) && !http_turn(c, HTTP_OLD_SPARE, HTTP_REVIVED))
		return false;
	http_spares_add(-1);
	http_renew(c, sk, false);
	return true;
}

/* The place that a connection's ports lead to, if nobody has it; one that nobody ever had is all zeros. */
static __always_inline struct http_conn *http_take_slot(u32 slot, u64 sk)
{
	struct http_conn *c = bpf_map_lookup_elem(&http_slots, &slot);

	if (!c || !(http_turn(c, HTTP_SPARE, HTTP_REVIVED) ||
		    (!c->sk && http_turn(c, HTTP_LIVE, HTTP_REVIVED))))
		return NULL;
	http_renew(c, sk, true);
	return c;
}

/* After its end: spare, or gone. */
static __noinline int http_retire(struct http_conn *c, void *key)
{
	u32 zero = 0;
	u64 *spares;

	if (c->in_slot)
		return http_turn(c, HTTP_LIVE, HTTP_SPARE);
	spares = bpf_map_lookup_elem(&http_spares, &zero);
	if (!spares || *spares >= HTTP_SPARES)
		bpf_map_delete_elem(&http_conns, key);
	else if (http_turn(c, HTTP_LIVE, HTTP_SPARE))
		http_spares_add(1);
	return 0;
}

/* An entry without anything in it for the socket at `sk`, whose address is at `key`; NULL: there is no room. */
static __always_inline struct http_conn *http_blank_for(u64 sk, u32 slot, void *key)
{
	struct http_conn *c = http_take_slot(slot, sk);
	u32 zero = 0;

	if (c)
		return c;
	c = bpf_map_lookup_elem(&http_conns, key);
	if (c)
		return http_revive(c, sk) ? c : NULL;
	c = bpf_map_lookup_elem(&http_blank, &zero);
	if (!c || bpf_map_update_elem(&http_conns, key, c, BPF_NOEXIST))
		return NULL;
	c = bpf_map_lookup_elem(&http_conns, key);
	if (c)
		c->sk = sk;
	return c;
}

/* A closed socket whose close nobody saw, or another's memory by now. */
static __always_inline bool http_is_gone(struct http_conn *c)
{
	u64 cookie = *(volatile u64 *)&c->cookie;
	struct sock *sk = (struct sock *)c->sk;

	return cookie && ((u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) != cookie ||
			  BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE);
}

/* A spare entry that was not taken between two sweeps goes. */
static __always_inline void http_sweep_spare(struct http_conn *c, u64 *key)
{
	if (http_turn(c, HTTP_SPARE, HTTP_OLD_SPARE) || !http_turn(c, HTTP_OLD_SPARE, HTTP_GONE))
		return;
	http_spares_add(-1);
	bpf_map_delete_elem(&http_conns, key);
}

#endif
