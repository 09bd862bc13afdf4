/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every packet from or to a port at which a database is spoken, at both ends, in all network namespaces: one record with
 * the payload, in parts of DB_PAYLOAD_MAX. What is said in it is read in user space (decode.ts), for a command may lie
 * anywhere in the bytes. The fuller the ring, the less of a packet is copied, and the rest is told by its length: the reader
 * passes over it where it is of one large value. All databases share this; ports alone tell which one it is.
 */
#ifndef SONDE_DB_H
#define SONDE_DB_H

#include "../../bpf/payload.bpf.h"
#include "../tcp/conn.bpf.h"

/* Payloads are cut to these. */
#define DB_PAYLOAD_SMALL 64
#define DB_PAYLOAD_MIDDLE 512
#define DB_PAYLOAD_LARGE 2048
#define DB_PAYLOAD_MAX 4096
#define DB_PARTS_MAX 128 /* 512 KB: GSO_MAX_SIZE */

const volatile bool redis_enabled = false;
const volatile bool postgresql_enabled = false;
const volatile bool mysql_enabled = false;

/* Configuration: collector.redis.ports and so on; 0: none. */
#define DEFINE_DB_PORTS(name) \
const volatile u32 name##_port_0 = 0; \
const volatile u32 name##_port_1 = 0; \
const volatile u32 name##_port_2 = 0; \
const volatile u32 name##_port_3 = 0; \
static __always_inline bool is_##name##_port(u16 port) \
{ \
	return (name##_port_0 && port == name##_port_0) || \
	       (name##_port_1 && port == name##_port_1) || \
	       (name##_port_2 && port == name##_port_2) || \
	       (name##_port_3 && port == name##_port_3); \
}

DEFINE_DB_PORTS(redis)
DEFINE_DB_PORTS(postgresql)
DEFINE_DB_PORTS(mysql)

enum db_flag {
	DB_SENT = 1, /* by the socket of this end; else it came to it */
	DB_BEGIN = 2, /* SYN: `seq` is of the first byte that this side will send */
	DB_END = 4, /* FIN behind the payload */
	DB_RESET = 8,
	DB_LISTENER = 16, /* on the listening socket, not the connection's own */
};

struct db_record {
	struct record_head head; /* flags: enum db_flag */
	struct owner owner; /* tgid 0: unknown so far */
	u64 time_ns; /* CLOCK_MONOTONIC */
	u64 cookie; /* of the socket */
	u8 local_addr[16]; /* as the packet has it: network order; IPv4 in the first four */
	u8 peer_addr[16];
	u32 netns;
	u32 seq; /* of the first byte of the payload */
	u32 ack_seq;
	u32 payload_length; /* of the packet, or of a part of it */
	u16 captured; /* bytes of these that follow this record; the others are not here */
	u16 local_port;
	u16 peer_port;
	u8 family;
	u8 unused;
};

static __always_inline bool db_enabled(void)
{
	return redis_enabled || postgresql_enabled || mysql_enabled;
}

/* False too where the source is off. */
static __always_inline bool is_db_port(u16 port)
{
	return (redis_enabled && is_redis_port(port)) ||
	       (postgresql_enabled && is_postgresql_port(port)) ||
	       (mysql_enabled && is_mysql_port(port));
}

static __always_inline u32 db_flags(struct packet *packet)
{
	u32 flags = packet->ingress ? 0 : DB_SENT;

	if (packet->tcp_flags & TCP_FLAG_SYN)
		flags |= DB_BEGIN;
	if (packet->tcp_flags & TCP_FLAG_FIN)
		flags |= DB_END;
	if (packet->tcp_flags & TCP_FLAG_RST)
		flags |= DB_RESET;
	if (packet->ingress && packet->sk && packet->sk->state == TCP_LISTEN)
		flags |= DB_LISTENER;
	return flags;
}

/*
 * Bytes of a packet that may be copied, by what waits in the ring or is read and not safe yet (up to a quarter of it): so
 * large values leave room for small commands, and databases a quarter to the other sources. 0: nothing may go.
 */
static __always_inline u32 db_room(void)
{
	u64 part = bpf_ringbuf_query(&sonde_ring, BPF_RB_RING_SIZE) / 32;
	u64 waiting = bpf_ringbuf_query(&sonde_ring, BPF_RB_AVAIL_DATA);

	if (waiting < 18 * part)
		return DB_PAYLOAD_MAX * DB_PARTS_MAX;
	if (waiting < 19 * part)
		return DB_PAYLOAD_MAX;
	if (waiting < 20 * part)
		return DB_PAYLOAD_MIDDLE;
	return waiting < 24 * part ? DB_PAYLOAD_SMALL : 0;
}

/* `at`: where in the payload the part begins that goes with this record; `length`: of the part. */
static __always_inline void db_fill(struct packet *packet, struct db_record *record, u32 at,
				    u32 length, u32 captured)
{
	u64 sk = packet_sock(packet);
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &sk);

	record->head.kind = RECORD_DB;
	record->head.flags = db_flags(packet);
	if (conn)
		record->owner = conn->owner;
	else
		__builtin_memset(&record->owner, 0, sizeof(record->owner));
	record->time_ns = bpf_ktime_get_ns();
	record->cookie = bpf_get_socket_cookie(packet->skb);
	packet_ends(packet, record->local_addr, record->peer_addr);
	record->netns = sk ? sock_netns_probe((struct sock *)sk) : 0;
	record->seq = packet->seq + at + (packet->tcp_flags & TCP_FLAG_SYN ? 1 : 0);
	record->ack_seq = packet->ack_seq;
	record->payload_length = length;
	record->captured = captured;
	record->local_port = packet->local_port;
	record->peer_port = packet->peer_port;
	record->family = packet->family;
	record->unused = 0;
}

static __always_inline void db_count_lost(void)
{
	count(COUNT_DB_FULL);
}

DEFINE_SEND(db, small, DB_PAYLOAD_SMALL)
DEFINE_SEND(db, middle, DB_PAYLOAD_MIDDLE)
DEFINE_SEND(db, large, DB_PAYLOAD_LARGE)
DEFINE_SEND(db, max, DB_PAYLOAD_MAX)

/* A begin or an end without payload. */
static __always_inline void db_send_bare(struct packet *packet)
{
	struct db_record *out = bpf_ringbuf_reserve(&sonde_ring, sizeof(*out), 0);

	if (!out) {
		db_count_lost();
		return;
	}
	db_fill(packet, out, 0, 0, 0);
	count(COUNT_RECORDS);
	bpf_ringbuf_submit(out, ring_flags(sizeof(*out)));
}

/* In room of the least size that holds it. */
static __always_inline void db_send(struct packet *packet, u32 at, u32 length)
{
	if (length <= DB_PAYLOAD_SMALL)
		db_send_small(packet, at, length);
	else if (length <= DB_PAYLOAD_MIDDLE)
		db_send_middle(packet, at, length);
	else if (length <= DB_PAYLOAD_LARGE)
		db_send_large(packet, at, length);
	else
		db_send_max(packet, at, length);
}

__noinline int db_send_part(struct __sk_buff *skb, u32 ingress, u32 at, u32 length)
{
	struct packet packet;

	if (!length || !packet_parse(skb, ingress, &packet))
		return 0;
	if (at + length < packet.payload_length)
		packet.tcp_flags &= ~(TCP_FLAG_FIN | TCP_FLAG_RST); /* behind the last part */
	db_send(&packet, at, length);
	return 0;
}

DEFINE_SEND_PARTS(db, DB_PAYLOAD_MAX, DB_PARTS_MAX)

/* Asked inline of each packet: the one thing that those of others pay. */
static __always_inline bool db_is_at(struct packet *packet)
{
	return is_db_port(packet->local_port) || is_db_port(packet->peer_port);
}

static __always_inline void db_on_packet(struct packet *packet)
{
	u32 length = packet->payload_length;
	u32 room;

	if (packet->protocol != IPPROTO_TCP)
		return;
	room = db_room();
	if (!room) {
		db_count_lost();
	} else if (!length) {
		/* what a listening socket sends are answers to SYN, which have its cookie */
		if (packet->ingress || !packet->sk || packet->sk->state != TCP_LISTEN)
			db_send_bare(packet);
	} else if (length <= DB_PAYLOAD_SMALL ||
		   (room == DB_PAYLOAD_SMALL && length > DB_PAYLOAD_MIDDLE)) {
		db_send_small(packet, 0, length);
	} else if (length <= DB_PAYLOAD_MIDDLE || room == DB_PAYLOAD_MIDDLE) {
		db_send_middle(packet, 0, length);
	} else if (length <= room) {
		db_send_parts(packet->skb, packet->ingress, length);
	} else {
		db_send_max(packet, 0, length);
	}
}

#endif
