/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the NAT probe does with each packet that is sent: compares its destination with the socket's. */
#ifndef SONDE_NAT_PACKET_H
#define SONDE_NAT_PACKET_H

#include "../tcp/conn.bpf.h"
#include "../udp/udp.bpf.h"

static __always_inline void sk_peer_addr(struct bpf_sock *sk, u8 family, u32 *words)
{
	if (family == AF_INET) {
		words[0] = SK_WORD(sk, dst_ip4);
		return;
	}
	words[0] = SK_WORD(sk, dst_ip6[0]);
	words[1] = SK_WORD(sk, dst_ip6[1]);
	words[2] = SK_WORD(sk, dst_ip6[2]);
	words[3] = SK_WORD(sk, dst_ip6[3]);
}

/* The destination in the headers; false: cut, or behind extension headers. */
static __always_inline bool packet_dest(struct packet *packet, struct nat_peer *peer)
{
	void *data = (void *)(long)packet->skb->data;
	void *end = (void *)(long)packet->skb->data_end;
	u32 *words = (u32 *)peer->addr;
	u16 *ports;

	if (packet->family == AF_INET) {
		struct ipv4_header *ip = data;

		if ((void *)(ip + 1) > end)
			return false;
		words[0] = ip->dest;
		ports = data + (ip->version_words & 15) * 4;
	} else {
		struct ipv6_header *ip = data;

		if ((void *)(ip + 1) > end || ip->next != packet->protocol)
			return false;
		words[0] = ip->dest[0];
		words[1] = ip->dest[1];
		words[2] = ip->dest[2];
		words[3] = ip->dest[3];
		ports = (u16 *)(ip + 1);
	}
	if ((void *)(ports + 2) > end)
		return false;
	peer->port = bpf_ntohs(ports[1]);
	return true;
}

static __always_inline bool same_words(const u32 *a, const u32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/* Of an unconnected UDP socket: the peer that the call named, in which this packet is made (udp_peers). */
static __always_inline bool nat_named_peer(struct packet *packet, struct nat_key *key)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	u64 thread = (u64)BPF_CORE_READ(task, tgid) << 32 | (u32)BPF_CORE_READ(task, pid);
	struct udp_peer *named = bpf_map_lookup_elem(&udp_peers, &thread);

	if (!named || named->key.cookie != key->socket)
		return false;
	__builtin_memcpy(key->peer_addr, named->key.peer_addr, sizeof(key->peer_addr));
	key->peer_port = named->key.peer_port;
	return named->key.family == packet->family;
}

/* True: it was not known. */
static __always_inline bool nat_keep(struct nat_key *key, struct nat_peer *peer)
{
	struct nat_peer *known = bpf_map_lookup_elem(&nat_peers, key);

	if (known && known->port == peer->port &&
	    same_words((u32 *)known->addr, (u32 *)peer->addr))
		return false;
	bpf_map_update_elem(&nat_peers, key, peer, BPF_ANY);
	return true;
}

/* Tells of it before the connection's first request can: sources of requests have no look at `nat_peers`. */
static __noinline int nat_report(u64 address, struct nat_peer *peer)
{
	struct sock *sk = (struct sock *)address;
	struct nat_service service = {};
	struct nat_sight led = { .led = 1 };
	struct flow_record *rec;

	rec = bpf_ringbuf_reserve(&sonde_ring, sizeof(*rec), 0);
	if (!rec) {
		count(COUNT_NAT_LOST);
		return 0;
	}
	__builtin_memset(rec, 0, sizeof(*rec));
	sock_ends_probe(sk, rec);
	rec->head.kind = RECORD_NAT;
	rec->transport = IPPROTO_TCP;
	rec->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	__builtin_memcpy(rec->nat_addr, peer->addr, sizeof(rec->nat_addr));
	rec->nat_port = peer->port;
	__builtin_memcpy(service.addr, rec->peer_addr, sizeof(service.addr));
	service.port = rec->peer_port;
	bpf_map_update_elem(&nat_services, &service, &led, BPF_ANY);
	count(COUNT_RECORDS);
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
	return 0;
}

/* The mark in the connection's entry spares the others a look into `nat_peers`. */
static __always_inline void nat_keep_tcp(struct packet *packet, struct nat_key *key,
					 struct nat_peer *peer)
{
	u64 sk = packet_sock(packet);
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &sk);

	if (!conn)
		return;
	__builtin_memset(key, 0, sizeof(*key));
	key->socket = sk;
	if (!nat_keep(key, peer))
		return;
	nat_report(sk, peer);
	if (!(conn->reset_flags & FLOW_NAT))
		conn->reset_flags |= FLOW_NAT;
}

static __always_inline void nat_on_packet(struct packet *packet)
{
	struct bpf_sock *sk = packet->sk;
	struct nat_peer peer = {};
	struct nat_key key = {};
	bool tcp = packet->protocol == IPPROTO_TCP;

	if (packet->ingress || !sk || !(tcp || packet->protocol == IPPROTO_UDP))
		return;
	if (!packet_dest(packet, &peer))
		return;
	key.family = packet->family;
	key.peer_port = sk_peer_port(sk);
	if (key.peer_port) {
		sk_peer_addr(sk, packet->family, (u32 *)key.peer_addr);
	} else {
		key.socket = bpf_get_socket_cookie(packet->skb);
		if (tcp || !nat_named_peer(packet, &key))
			return; /* a listening socket, or nobody's call */
	}
	if (key.peer_port == peer.port && same_words((u32 *)key.peer_addr, (u32 *)peer.addr))
		return;
	if (tcp) {
		nat_keep_tcp(packet, &key, &peer);
		return;
	}
	key.socket = bpf_get_socket_cookie(packet->skb);
	nat_keep(&key, &peer);
}

#endif
