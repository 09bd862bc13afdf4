/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Reading a struct sock, in two ways: `_direct` for the arguments of a hook, which the verifier knows as kernel types
 * (plain loads), and `_probe` for an address that was kept in a map (bpf_probe_read_kernel: slower, and any garbage is
 * only garbage, never a fault).
 */
#ifndef SONDE_SOCK_H
#define SONDE_SOCK_H

#include "flow.bpf.h"

#define SOCK_STREAM 1
#define SOCK_DGRAM 2

#define DEFINE_SOCK_READERS(way, READ) \
/* A socket's protocol alone says little: raw sockets and those of netlink may have the number of TCP or UDP. */ \
static __always_inline bool sock_is_inet_##way(struct sock *sk, u16 type) \
{ \
	u16 family = READ(sk, __sk_common.skc_family); \
	return (family == AF_INET || family == AF_INET6) && READ(sk, sk_type) == type; \
} \
static __always_inline u32 sock_netns_##way(struct sock *sk) \
{ \
	struct net *net = READ(sk, __sk_common.skc_net.net); \
	return READ(net, ns.inum); \
} \
static __always_inline void copy_addr6_##way(u8 *to, struct in6_addr *from) \
{ \
	u32 *words = (u32 *)to; \
	words[0] = READ(from, in6_u.u6_addr32[0]); \
	words[1] = READ(from, in6_u.u6_addr32[1]); \
	words[2] = READ(from, in6_u.u6_addr32[2]); \
	words[3] = READ(from, in6_u.u6_addr32[3]); \
} \
static __always_inline void clear_addrs_##way(struct flow_record *flow) \
{ \
	__builtin_memset(flow->local_addr, 0, sizeof(flow->local_addr)); \
	__builtin_memset(flow->peer_addr, 0, sizeof(flow->peer_addr)); \
} \
/* Both ends of a connected socket. An IPv6 socket that carries IPv4 is reported as IPv4. */ \
static __always_inline void sock_ends_##way(struct sock *sk, struct flow_record *flow) \
{ \
	flow->netns = sock_netns_##way(sk); \
	flow->peer_port = bpf_ntohs(READ(sk, __sk_common.skc_dport)); \
	clear_addrs_##way(flow); \
	if (READ(sk, __sk_common.skc_family) == AF_INET6) { \
		copy_addr6_##way(flow->peer_addr, &sk->__sk_common.skc_v6_daddr); \
		if (!is_mapped((u32 *)flow->peer_addr)) { \
			flow->family = AF_INET6; \
			copy_addr6_##way(flow->local_addr, &sk->__sk_common.skc_v6_rcv_saddr); \
			return; \
		} \
		__builtin_memset(flow->peer_addr, 0, sizeof(flow->peer_addr)); \
	} \
	flow->family = AF_INET; \
	*(u32 *)flow->local_addr = READ(sk, __sk_common.skc_rcv_saddr); \
	*(u32 *)flow->peer_addr = READ(sk, __sk_common.skc_daddr); \
}

DEFINE_SOCK_READERS(direct, READ_DIRECT)
DEFINE_SOCK_READERS(probe, READ_PROBE)

/* A full socket's address as a number, which the verifier lets a program look up and read by. */
static __always_inline u64 address_of(struct bpf_sock *sk)
{
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return address;
}

/* The peer that a call names, into 16 bytes of zeros. Returns its family: IPv4-mapped addresses name an IPv4 peer. */
static __always_inline u8 named_peer(struct bpf_sock_addr *ctx, u8 family, u8 *addr, u16 *port)
{
	u32 *words = (u32 *)addr;

	*port = bpf_ntohs((u16)ctx->user_port);
	if (family == AF_INET) {
		words[0] = ctx->user_ip4;
		return AF_INET;
	}
	words[0] = ctx->user_ip6[0];
	words[1] = ctx->user_ip6[1];
	words[2] = ctx->user_ip6[2];
	words[3] = ctx->user_ip6[3];
	if (!is_mapped(words))
		return AF_INET6;
	words[0] = words[3];
	words[2] = words[3] = 0;
	return AF_INET;
}

#endif
