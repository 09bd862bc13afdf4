/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every packet from or to a DNS port, at both ends: the client's socket and the server's, in all network namespaces. Each
 * makes one record with the payload as far as DNS_PAYLOAD_MAX; queries meet their answers in user space (pending.ts), since
 * few packets are DNS and parsing names in the kernel would cost more than copying them.
 */
#ifndef SONDE_DNS_H
#define SONDE_DNS_H

#include "../../bpf/payload.bpf.h"
#include "../tcp/conn.bpf.h"

/* Payloads are cut to these. */
#define DNS_PAYLOAD_SMALL 128
#define DNS_PAYLOAD_MIDDLE 512
#define DNS_PAYLOAD_MAX 2048
#define DNS_PARTS_MAX 256 /* 512 KB: GSO_MAX_SIZE, the largest packet that there is (seen: 75 KB on loopback) */

/* Configuration: collector.dns.ports; 0: none. */
const volatile u32 dns_port_0 = 53;
const volatile u32 dns_port_1 = 0;
const volatile u32 dns_port_2 = 0;
const volatile u32 dns_port_3 = 0;

enum dns_flag {
	DNS_SENT = 1, /* by the socket of this end; else it came to it */
};

struct dns_record {
	struct record_head head; /* flags: enum dns_flag */
	struct owner owner; /* tgid 0: unknown, as for what comes to a UDP socket */
	u64 time_ns; /* CLOCK_MONOTONIC */
	u64 cookie; /* of the socket */
	u8 local_addr[16]; /* as the packet has it: network order; IPv4 in the first four */
	u8 peer_addr[16];
	u32 netns;
	u32 seq; /* TCP: of the first byte of the payload */
	u32 payload_length; /* of the packet, or of a part of it */
	u16 captured; /* bytes of these that follow this record */
	u16 local_port;
	u16 peer_port;
	u8 family;
	u8 transport;
	u8 unused[4];
};

/* How many records found the ring full: with answers lost, a query without one has not timed out for certain. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} dns_lost SEC(".maps");

static __always_inline void dns_count_lost(void)
{
	u32 zero = 0;
	u64 *lost = bpf_map_lookup_elem(&dns_lost, &zero);

	count(COUNT_DNS_FULL);
	if (lost)
		__sync_fetch_and_add(lost, 1);
}

static __always_inline bool is_dns_port(u16 port)
{
	return port && (port == dns_port_0 || port == dns_port_1 || port == dns_port_2 ||
			port == dns_port_3);
}

/*
 * Who: a UDP socket sends in its own process. TCP sends when it may, in anybody's context: its connection knows.
 */
static __always_inline void dns_owner(struct packet *packet, u64 sk, struct owner *owner)
{
	struct conn *conn;

	__builtin_memset(owner, 0, sizeof(*owner));
	if (packet->protocol == IPPROTO_TCP) {
		conn = bpf_map_lookup_elem(&tcp_conns, &sk);
		if (conn)
			*owner = conn->owner;
	} else if (!packet->ingress) {
		owner_of_current_task(owner);
	}
}

/* `at`: where in the payload the part begins that goes with this record; `length`: of the part. */
static __always_inline void dns_fill(struct packet *packet, struct dns_record *record, u32 at,
				     u32 length, u32 captured)
{
	u64 sk = packet_sock(packet);
	struct owner owner; /* before 6.3 no key of a map may lie in a record of the ring */

	record->head.kind = RECORD_DNS;
	record->head.flags = packet->ingress ? 0 : DNS_SENT;
	dns_owner(packet, sk, &owner);
	record->owner = owner;
	record->time_ns = bpf_ktime_get_ns();
	record->cookie = bpf_get_socket_cookie(packet->skb);
	packet_ends(packet, record->local_addr, record->peer_addr);
	record->netns = sk ? sock_netns_probe((struct sock *)sk) : 0;
	record->seq = packet->seq + at;
	record->payload_length = length;
	record->captured = captured;
	record->local_port = packet->local_port;
	record->peer_port = packet->peer_port;
	record->family = packet->family;
	record->transport = packet->protocol;
	__builtin_memset(record->unused, 0, sizeof(record->unused));
}

DEFINE_SEND(dns, small, DNS_PAYLOAD_SMALL)
DEFINE_SEND(dns, middle, DNS_PAYLOAD_MIDDLE)
DEFINE_SEND(dns, large, DNS_PAYLOAD_MAX)

__noinline int dns_send_part(struct __sk_buff *skb, u32 ingress, u32 at, u32 length)
{
	struct packet packet;

	if (!packet_parse(skb, ingress, &packet))
		return 0;
	if (length <= DNS_PAYLOAD_SMALL)
		dns_send_small(&packet, at, length);
	else if (length <= DNS_PAYLOAD_MIDDLE)
		dns_send_middle(&packet, at, length);
	else
		dns_send_large(&packet, at, length);
	return 0;
}

/* A TCP packet may hold many messages. */
DEFINE_SEND_PARTS(dns, DNS_PAYLOAD_MAX, DNS_PARTS_MAX)

static __always_inline void dns_on_packet(struct packet *packet)
{
	u32 length = packet->payload_length;

	if (!is_dns_port(packet->local_port) && !is_dns_port(packet->peer_port))
		return;
	if (!length || (packet->protocol != IPPROTO_UDP && packet->protocol != IPPROTO_TCP))
		return;
	/* of a datagram the beginning */
	if (packet->protocol == IPPROTO_UDP || length <= DNS_PAYLOAD_MAX)
		dns_send_part(packet->skb, packet->ingress, 0, length);
	else
		dns_send_parts(packet->skb, packet->ingress, length);
}

#endif
