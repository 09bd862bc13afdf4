/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What selected connections carry, copied into the ring: for each packet its payload in chunks, with the connection's
 * identity, the side that speaks and TCP's sequence number. Nothing is copied for a connection that is not selected, and
 * off by default the code is not there. Reassembly, HTTP and redaction: probes/capture/ in TypeScript.
 *
 * Selected by owner (tgid), by cgroup, or all. The first request of an accepted connection comes before its process has
 * read, so before the owner is known: such a connection goes by the cgroup of its socket (the listener's), or by the port
 * of a selected process's listener; what only the port says is marked provisional until the owner is known.
 */
#ifndef SONDE_CAPTURE_H
#define SONDE_CAPTURE_H

#include "select.bpf.h"

#define CONN_IDLE_NS (300 * 1000000000ULL) /* then it is announced again: the reader forgets it after twice as long */

struct capture_conn {
	u64 last_ns; /* of its last packet */
	u32 left[2]; /* bytes that may still be copied of this exchange, by side */
	u8 last_side;
	bool owner_told;
	bool stopped; /* it speaks another protocol by now */
	u8 role; /* enum flow_role */
	u8 unused[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* cookie */
	__type(value, struct capture_conn);
} capture_conns SEC(".maps");

const volatile u32 capture_max = 1 << 20; /* bytes of a request, and of a response */
extern const volatile bool capture_enabled;

static __always_inline bool capture_ends(struct packet *packet, struct capture_record *record)
{
	u8 *first = packet->ingress ? record->peer_addr : record->local_addr;
	u8 *second = packet->ingress ? record->local_addr : record->peer_addr;
	u32 at = packet->family == AF_INET6 ? 8 : 12;

	record->family = packet->family;
	record->local_port = packet->local_port;
	record->peer_port = packet->peer_port;
	if (packet->family == AF_INET6)
		return !bpf_skb_load_bytes(packet->skb, at, first, 16) &&
		       !bpf_skb_load_bytes(packet->skb, at + 16, second, 16);
	return !bpf_skb_load_bytes(packet->skb, at, first, 4) &&
	       !bpf_skb_load_bytes(packet->skb, at + 4, second, 4);
}

/*
 * Capture of a connection begins with a request, so that other protocols cost nothing and are not copied. A segment that
 * overtook the connection's first begins it, too.
 */
static __always_inline bool capture_begins(struct packet *packet, struct capture_record *record,
					   struct bpf_tcp_sock *tp)
{
	if (record->side != SIDE_REQUEST)
		return false;
	if (packet->ingress && tp && !tp->bytes_received && packet->seq != tp->rcv_nxt)
		return true;
	return starts_request(packet);
}

/* The response that agrees to another protocol: nothing behind this packet is HTTP/1. */
static __always_inline bool capture_upgrades(struct packet *packet)
{
	u8 line[12]; /* HTTP/1.1 101 */

	if (packet->payload_length < sizeof(line) ||
	    bpf_skb_load_bytes(packet->skb, packet->payload_offset, line, sizeof(line)))
		return false;
	return line[0] == 'H' && line[4] == '/' && line[9] == '1' && line[10] == '0' &&
	       line[11] == '1';
}

/* Stands for a connection whose own socket is not there yet. */
static __always_inline u64 made_up_cookie(struct capture_record *record)
{
	u32 word = ((u32 *)record->peer_addr)[record->family == AF_INET6 ? 3 : 0];

	return COOKIE_MADE_UP | (u64)(bpf_ntohl(word) & 0xfffff) << 32 |
	       (u32)record->peer_port << 16 | record->local_port;
}

/* True once for a connection whose first segment came to the listening socket. */
static __always_inline bool capture_began_early(struct capture_record *record)
{
	u64 cookie = made_up_cookie(record);

	return record->role == ROLE_INCOMING && !bpf_map_delete_elem(&capture_conns, &cookie);
}

/*
 * The connection's state, made with the record of its begin. NULL: it has none, for it has not begun, or the record found
 * no room (counted; the next request tries again).
 */
static __always_inline struct capture_conn *capture_state(struct packet *packet,
							  struct capture_record *record)
{
	struct capture_conn *known = bpf_map_lookup_elem(&capture_conns, &record->cookie);
	struct capture_conn fresh = {
		.last_ns = record->time_ns,
		.left = { capture_max, capture_max },
		.owner_told = record->owner.tgid != 0,
		.role = record->role,
	};
	struct bpf_tcp_sock *tp;
	u32 came, went;

	if (known && record->time_ns - known->last_ns < CONN_IDLE_NS)
		return known;
	tp = bpf_tcp_sock(packet->sk);
	if (!tp || !(capture_begins(packet, record, tp) || capture_began_early(record)))
		return 0;
	record->head.flags |= CAPTURE_OPEN;
	came = tp->rcv_nxt;
	went = tp->snd_una;
	asm volatile("" : "+r"(came), "+r"(went)); /* else one load, of an address that is chosen */
	record->seq = packet->ingress ? came : went;
	record->ack_seq = packet->ingress ? went : came;
	if (capture_control(record))
		bpf_map_update_elem(&capture_conns, &record->cookie, &fresh, BPF_ANY);
	else
		capture_count(CAPTURE_BYTES_LOST, packet->payload_length);
	record->head.flags &= ~CAPTURE_OPEN;
	return bpf_map_lookup_elem(&capture_conns, &record->cookie);
}

static __always_inline void capture_tell_owner(struct capture_conn *conn,
					       struct capture_record *record)
{
	if (conn->owner_told || !record->owner.tgid)
		return;
	record->head.flags |= CAPTURE_OWNER;
	if (capture_control(record))
		conn->owner_told = true;
	record->head.flags &= ~CAPTURE_OWNER;
}

/* What may be copied of this payload. A request after a response begins a new exchange. */
static __always_inline u32 capture_allowance(struct capture_conn *conn, u32 side, u32 length)
{
	u32 allowed;

	if (side == SIDE_REQUEST && conn->last_side == SIDE_RESPONSE) {
		conn->left[SIDE_REQUEST] = capture_max;
		conn->left[SIDE_RESPONSE] = capture_max;
	}
	conn->last_side = side;
	side &= 1;
	allowed = conn->left[side];
	if (allowed > length)
		allowed = length;
	conn->left[side] -= allowed;
	return allowed;
}

/* The handshake's last segment, with data (TCP_DEFER_ACCEPT): the connection's own socket is not there yet. */
static __always_inline void capture_early(struct packet *packet, struct capture_record *record)
{
	struct capture_conn early = { .last_ns = record->time_ns };

	record->cookie = made_up_cookie(record);
	record->seq = packet->seq;
	if (!capture_control(record)) {
		capture_count(CAPTURE_BYTES_LOST, packet->payload_length);
		return;
	}
	bpf_map_update_elem(&capture_conns, &record->cookie, &early, BPF_ANY);
	capture_payload(packet, packet->payload_length, record->cookie, SIDE_REQUEST);
}

static __always_inline void capture_data(struct packet *packet, struct capture_record *record)
{
	u32 length = packet->payload_length;
	struct capture_conn *conn;
	u32 allowed;

	if (record->head.flags & CAPTURE_LISTENER) {
		if (!capture_begins(packet, record, 0))
			return;
		capture_count(CAPTURE_BYTES, length);
		capture_early(packet, record);
		return;
	}
	conn = capture_state(packet, record);
	if (!conn || conn->stopped)
		return;
	conn->last_ns = record->time_ns;
	capture_count(CAPTURE_BYTES, length);
	if (record->side == SIDE_RESPONSE && capture_upgrades(packet))
		conn->stopped = true;
	capture_tell_owner(conn, record);
	allowed = capture_allowance(conn, record->side, length);
	capture_payload(packet, allowed, record->cookie, record->side);
	if (allowed == length)
		return;
	record->head.flags |= CAPTURE_BEYOND;
	record->seq = packet->seq + allowed;
	record->length = length - allowed;
	capture_count(CAPTURE_BYTES_BEYOND, length - allowed);
	capture_control(record);
	record->head.flags &= ~CAPTURE_BEYOND;
}

static __always_inline void capture_packet(struct packet *packet)
{
	struct capture_record record = { .head.kind = RECORD_CAPTURE };
	u64 key = (u64)packet->sk;
	struct capture_conn *known;
	struct conn *conn;
	bool server;
	u32 modes;

	if (packet->protocol != IPPROTO_TCP || !packet->sk || packet->tcp_flags & TCP_FLAG_SYN)
		return;
	conn = bpf_map_lookup_elem(&tcp_conns, &key);
	modes = capture_modes(packet, conn, &record);
	if (!modes)
		return;
	if (conn && !is_conn_of(conn, key))
		conn = 0;
	record.cookie = bpf_get_socket_cookie(packet->skb);
	known = bpf_map_lookup_elem(&capture_conns, &record.cookie);
	record.role = capture_role(packet, conn, known ? known->role : ROLE_UNKNOWN);
	server = record.role == ROLE_INCOMING;
	if (record.role == ROLE_UNKNOWN || !(modes & (server ? CAPTURE_INGRESS : CAPTURE_EGRESS)) ||
	    !capture_ends(packet, &record))
		return;
	if (packet->sk->state == TCP_LISTEN)
		record.head.flags |= CAPTURE_LISTENER;
	if (conn)
		record.owner = conn->owner;
	record.netns = capture_netns(key);
	record.side = server == packet->ingress ? SIDE_REQUEST : SIDE_RESPONSE;
	record.time_ns = bpf_ktime_get_boot_ns();
	if (packet->payload_length)
		capture_data(packet, &record);
	if (!(packet->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST)) || !record.cookie ||
	    !bpf_map_lookup_elem(&capture_conns, &record.cookie))
		return; /* of a connection that said nothing while it was selected */
	record.head.flags |= CAPTURE_END;
	if (packet->tcp_flags & TCP_FLAG_RST)
		record.head.flags |= CAPTURE_RESET;
	record.seq = packet->seq + packet->payload_length;
	record.length = 0;
	capture_control(&record);
}

static __always_inline void capture_on_packet(struct packet *packet)
{
	capture_count(packet->ingress ? CAPTURE_IN_ENTRY : CAPTURE_OUT_ENTRY, 1);
	capture_packet(packet);
	capture_count(packet->ingress ? CAPTURE_IN_EXIT : CAPTURE_OUT_EXIT, 1);
}

#endif
