/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The life of an entry of `http_conns`: made for a connection's first request, spare when its socket has closed, taken by
 * the next socket at that address, deleted by the sweep if none came.
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

/*
 * A spare entry begins anew. Its numbers go on, so that what a sweep has read of it before cannot be claimed: there is no run
 * and no message since its end.
 */
static __always_inline bool http_revive(struct http_conn *c)
{
	const u32 from = __builtin_offsetof(struct http_conn, request_ns);
	const u32 to = __builtin_offsetof(struct http_conn, life);

	if (!http_turn(c, HTTP_SPARE, HTTP_REVIVED) && !http_turn(c, HTTP_OLD_SPARE, HTTP_REVIVED))
		return false;
	http_spares_add(-1);
	__builtin_memset((char *)c + from, 0, to - from);
	__builtin_memset(c->status_line, 0, sizeof(c->status_line));
	__builtin_memset(&c->rec, 0, __builtin_offsetof(struct http_record, entry));
	barrier(); /* without a cookie no sweep takes it for ended */
	return http_turn(c, HTTP_REVIVED, HTTP_LIVE);
}

/* After its end: spare, or gone. */
static __noinline int http_retire(struct http_conn *c, void *key)
{
	u32 zero = 0;
	u64 *spares = bpf_map_lookup_elem(&http_spares, &zero);

	if (!spares || *spares >= HTTP_SPARES)
		bpf_map_delete_elem(&http_conns, key);
	else if (http_turn(c, HTTP_LIVE, HTTP_SPARE))
		http_spares_add(1);
	return 0;
}

/* An entry without anything in it for this key; NULL: there is no room. */
static __always_inline struct http_conn *http_blank_for(void *key)
{
	struct http_conn *c = bpf_map_lookup_elem(&http_conns, key);
	u32 zero = 0;

	if (c)
		return http_revive(c) ? c : NULL;
	c = bpf_map_lookup_elem(&http_blank, &zero);
	if (!c || bpf_map_update_elem(&http_conns, key, c, BPF_NOEXIST))
		return NULL;
	return bpf_map_lookup_elem(&http_conns, key);
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
