/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * One packet of the host, parsed once for all who look at packets (skb_in and skb_out in sonde.bpf.c). The data of an skb
 * begin at its network header here; lengths come from skb->len, so that a packet which the kernel has not cut into
 * segments yet (GSO), or has put together from several (GRO), counts as it is: up to 64 KB, or more.
 *
 * Headers may be read where they are, by direct access. A payload lies in fragments: bpf_skb_load_bytes only.
 */
#ifndef SONDE_PACKET_H
#define SONDE_PACKET_H

#include "flow.bpf.h"

#define PACKET_IPV4 0x0800 /* ETH_P_IP */
#define PACKET_IPV6 0x86dd /* ETH_P_IPV6 */
#define EXTENSIONS_MAX 4 /* headers between the one of IPv6 and the transport's */

enum tcp_flag {
	TCP_FLAG_FIN = 1,
	TCP_FLAG_SYN = 2,
	TCP_FLAG_RST = 4,
	TCP_FLAG_PSH = 8,
	TCP_FLAG_ACK = 16,
};

struct packet {
	struct __sk_buff *skb;
	struct bpf_sock *sk; /* a full socket, or NULL; perhaps the LISTENING one: its state must be looked at */
	u32 payload_offset; /* from the network header */
	u32 payload_length;
	u32 seq; /* TCP, host order: of the first byte of the payload, or of SYN or FIN */
	u32 ack_seq;
	u16 local_port; /* host order; 0 unless TCP or UDP. Of a connected socket its own, as before NAT */
	u16 peer_port;
	u8 family; /* of the network header: a mapped IPv6 socket has packets of AF_INET */
	u8 protocol; /* IPPROTO_*, behind extension headers */
	u8 tcp_flags; /* enum tcp_flag */
	bool ingress;
};

struct ipv4_header {
	u8 version_words; /* version, length in words */
	u8 tos;
	u16 length;
	u16 id;
	u16 fragment;
	u8 ttl;
	u8 protocol;
	u16 check;
	u32 source;
	u32 dest;
};

struct ipv6_header {
	u32 flow;
	u16 length;
	u8 next;
	u8 hops;
	u32 source[4];
	u32 dest[4];
};

struct ipv6_extension {
	u8 next;
	u8 words; /* 8 bytes each, without the first 8 */
	u16 fragment; /* of a fragment header */
	u32 id;
};

struct tcp_header {
	u16 source;
	u16 dest;
	u32 seq;
	u32 ack_seq;
	u8 words; /* length in words << 4 */
	u8 flags;
	u16 window;
	u16 check;
	u16 urgent;
};

/* Length of the network header; 0: nothing that can be parsed. */
static __always_inline u32 packet_ipv4(struct packet *packet, void *data, void *end)
{
	struct ipv4_header *ip = data;

	if ((void *)(ip + 1) > end)
		return 0;
	if (ip->fragment & bpf_htons(0x1fff)) {
		count(COUNT_FRAGMENTS);
		return 0;
	}
	packet->family = AF_INET;
	packet->protocol = ip->protocol;
	return (ip->version_words & 15) * 4;
}

static __always_inline bool is_extension(u8 next)
{
	return next == 0 || next == 43 || next == 44 || next == 60; /* hop by hop, routing, fragment, options */
}

/* Rare: kept out of line of the plain case. */
static __always_inline u32 packet_extensions(struct packet *packet)
{
	u32 at = sizeof(struct ipv6_header);
	u8 next = packet->protocol;

	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		struct ipv6_extension extension;

		if (!is_extension(next))
			break;
		if (bpf_skb_load_bytes(packet->skb, at, &extension, sizeof(extension)))
			return 0;
		if (next == 44 && extension.fragment & bpf_htons(0xfff8)) {
			count(COUNT_FRAGMENTS);
			return 0;
		}
		at += next == 44 ? 8 : 8 + extension.words * 8;
		next = extension.next;
	}
	packet->protocol = next;
	return at;
}

static __always_inline u32 packet_ipv6(struct packet *packet, void *data, void *end)
{
	struct ipv6_header *ip = data;

	if ((void *)(ip + 1) > end)
		return 0;
	packet->family = AF_INET6;
	packet->protocol = ip->next;
	return is_extension(ip->next) ? packet_extensions(packet) : sizeof(*ip);
}

static __always_inline void packet_ports(struct packet *packet, u16 source, u16 dest)
{
	packet->local_port = bpf_ntohs(packet->ingress ? dest : source);
	packet->peer_port = bpf_ntohs(packet->ingress ? source : dest);
}

static __always_inline void packet_tcp(struct packet *packet, struct tcp_header *tcp)
{
	packet->payload_offset += (tcp->words >> 4) * 4;
	packet_ports(packet, tcp->source, tcp->dest);
	packet->seq = bpf_ntohl(tcp->seq);
	packet->ack_seq = bpf_ntohl(tcp->ack_seq);
	packet->tcp_flags = tcp->flags;
}

/*
 * Everything but `sk`. False: no IP, a later fragment (counted), or cut. A protocol other than TCP and UDP is parsed as far
 * as its name: the payload is what follows the network header.
 */
static __always_inline bool packet_parse(struct __sk_buff *skb, bool ingress, struct packet *packet)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	u32 at = 0;

	__builtin_memset(packet, 0, sizeof(*packet));
	packet->skb = skb;
	packet->ingress = ingress;
	if (skb->protocol == bpf_htons(PACKET_IPV4))
		at = packet_ipv4(packet, data, end);
	else if (skb->protocol == bpf_htons(PACKET_IPV6))
		at = packet_ipv6(packet, data, end);
	if (!at)
		return false;
	at &= 0x7fff; /* tells the verifier that it is small */
	packet->payload_offset = at;
	if (packet->protocol == IPPROTO_TCP) {
		struct tcp_header *tcp = data + at;

		if ((void *)(tcp + 1) > end)
			return false;
		packet_tcp(packet, tcp);
	} else if (packet->protocol == IPPROTO_UDP) {
		u16 *ports = data + at;

		if ((void *)(ports + 4) > end)
			return false;
		packet_ports(packet, ports[0], ports[1]);
		packet->payload_offset += 8;
	}
	if (packet->payload_offset > skb->len)
		return false;
	packet->payload_length = skb->len - packet->payload_offset;
	return true;
}

/* TCP without payload and without a begin or an end: nothing for who reads what programs say to each other. */
static __always_inline bool packet_is_bare(struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP && !packet->payload_length &&
	       !(packet->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_SYN | TCP_FLAG_RST));
}

/* Of struct bpf_sock, in a way that old compilers do not turn into arithmetic on its pointer. */
#define SK_WORD(sk, field) (*(volatile u32 *)&(sk)->field)

/* 16 bits in a word of 32, in network order; kernels before 5.18 allow no narrower load. 0: not connected. */
static __always_inline u16 sk_peer_port(struct bpf_sock *sk)
{
	return bpf_ntohs((u16)SK_WORD(sk, dst_port));
}

/* Once `sk` is known: what NAT has made of the ports of a packet that leaves is none of its socket's. */
static __always_inline void packet_socket_ports(struct packet *packet)
{
	struct bpf_sock *sk = packet->sk;
	u16 peer;

	if (packet->ingress || !sk)
		return;
	peer = sk_peer_port(sk);
	if (!peer)
		return;
	packet->peer_port = peer;
	packet->local_port = SK_WORD(sk, src_port);
}

/* Addresses as the packet has them, in network order; IPv4 in the first four bytes, the rest 0. 16 bytes each. */
static __always_inline void packet_ends(struct packet *packet, u8 *local, u8 *peer)
{
	u8 *source = packet->ingress ? peer : local;
	u8 *dest = packet->ingress ? local : peer;

	__builtin_memset(local, 0, 16);
	__builtin_memset(peer, 0, 16);
	if (packet->family == AF_INET) {
		bpf_skb_load_bytes(packet->skb, 12, source, 4);
		bpf_skb_load_bytes(packet->skb, 16, dest, 4);
	} else {
		bpf_skb_load_bytes(packet->skb, 8, source, 16);
		bpf_skb_load_bytes(packet->skb, 24, dest, 16);
	}
}

/* Address of the packet's struct sock, as a number: the key of tcp_conns, and for the _probe readers of sock.bpf.h. */
static __always_inline u64 packet_sock(struct packet *packet)
{
	struct sk_buff *skb = (struct sk_buff *)packet->skb;

	return (u64)BPF_CORE_READ(skb, sk);
}

#endif
