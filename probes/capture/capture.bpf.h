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

#include "../../bpf/packet.bpf.h"
#include "../tcp/conn.bpf.h"

#define CHUNK_LARGE 16384
#define CHUNK_MEDIUM 4096
#define CHUNK_SMALL 1024
#define CHUNK_TINY 256
#define CONN_IDLE_NS (300 * 1000000000ULL) /* then it is announced again: the reader forgets it after twice as long */
#define COOKIE_MADE_UP (1ULL << 52) /* above all that the kernel gives, below what a double holds exactly */
#define CHUNKS_MAX 12 /* of one packet: 64 KB are at most 4 large, 3 medium and one small */

enum capture_mode {
	CAPTURE_INGRESS = 1, /* requests to the selected, and its responses */
	CAPTURE_EGRESS = 2,  /* its own requests */
};

enum capture_flag {
	CAPTURE_OPEN = 1,         /* first record of a connection: `seq` and `ack_seq` are where its streams go on */
	CAPTURE_END = 2,          /* this side says no more */
	CAPTURE_RESET = 4,        /* with CAPTURE_END: by RST, so the other side neither */
	CAPTURE_BEYOND = 8,       /* beyond the limit of an exchange: `length` bytes that are not here */
	CAPTURE_PROVISIONAL = 16, /* the owner is not known yet */
	CAPTURE_LISTENER = 32,    /* came to the listening socket, with the end of the handshake: the cookie is made up */
	CAPTURE_OWNER = 64,       /* says who owns the connection, now that it is known */
	CAPTURE_DATA = 128,       /* a struct capture_chunk and its bytes; else a struct capture_record */
	CAPTURE_RESPONSE = 256,   /* with CAPTURE_DATA: of the side that answers */
};

enum capture_side {
	SIDE_REQUEST = 0, /* from the end that connected */
	SIDE_RESPONSE = 1,
};

/* The begin of a connection and what is known of it; its owner, once that is known; its end; what is not copied. */
struct capture_record {
	struct record_head head; /* flags: enum capture_flag */
	u64 cookie; /* of the socket */
	u64 time_ns; /* CLOCK_BOOTTIME */
	struct owner owner;
	u32 seq; /* of the first byte */
	u32 ack_seq; /* CAPTURE_OPEN: where the other side goes on */
	u32 length; /* CAPTURE_BEYOND: bytes of the stream that are not here */
	u32 netns;
	u16 local_port;
	u16 peer_port;
	u8 local_addr[16]; /* network order; IPv4 in the first four */
	u8 peer_addr[16];
	u8 family;
	u8 role; /* enum flow_role */
	u8 side; /* enum capture_side */
	u8 unused;
};

/* Before the bytes of a chunk. */
struct capture_chunk {
	struct record_head head; /* flags: CAPTURE_DATA, CAPTURE_RESPONSE */
	u64 cookie;
	u64 time_ns;
	u32 seq; /* of the first byte */
	u32 length; /* bytes behind this head */
};

/* What became of packets, bytes and records, and the entries and exits of the two programs. */
enum capture_count {
	CAPTURE_IN_ENTRY = 0,
	CAPTURE_IN_EXIT = 1,
	CAPTURE_OUT_ENTRY = 2,
	CAPTURE_OUT_EXIT = 3,
	CAPTURE_CHUNKS = 4,      /* data records in the ring */
	CAPTURE_CONTROLS = 5,    /* begins and ends in the ring */
	CAPTURE_LOST = 6,        /* records that found the ring, or capture's share of it, full */
	CAPTURE_BYTES = 7,       /* seen on selected connections */
	CAPTURE_COPIED = 8,
	CAPTURE_BYTES_BEYOND = 9, /* beyond the limit of their exchange */
	CAPTURE_BYTES_LOST = 10, /* of lost records, and of packets that could not be read */
	CAPTURE_COUNT_MAX = 11,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CAPTURE_COUNT_MAX);
	__type(key, u32);
	__type(value, u64);
} capture_counts SEC(".maps");

/* Written by src/collector/capture_select.ts; value: enum capture_mode, ORed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32); /* tgid */
	__type(value, u32);
} capture_procs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64); /* cgroup v2 id */
	__type(value, u32);
} capture_groups SEC(".maps");

/* Ports on which selected processes listen: by the collector's look at them, and as they call listen(). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct listener);
	__type(value, u32);
} capture_ports SEC(".maps");

struct capture_conn {
	u64 last_ns; /* of its last packet */
	u32 left[2]; /* bytes that may still be copied of this exchange, by side */
	u8 last_side;
	bool owner_told;
	bool stopped; /* it speaks another protocol by now */
	u8 unused[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* cookie */
	__type(value, struct capture_conn);
} capture_conns SEC(".maps");

const volatile u32 capture_all = 0; /* enum capture_mode of everybody */
const volatile u32 capture_max = 1 << 20; /* bytes of a request, and of a response */
const volatile u32 capture_ring = 4 << 20; /* with so much in the ring, capture leaves it to the others */
extern const volatile bool capture_enabled;

static __always_inline void capture_count(u32 what, u64 number)
{
	u64 *slot = bpf_map_lookup_elem(&capture_counts, &what);

	if (slot)
		__sync_fetch_and_add(slot, number);
}

static __always_inline u32 modes_of_port(u32 netns, u32 port)
{
	struct listener key = { .netns = netns, .port = port };
	u32 *modes = bpf_map_lookup_elem(&capture_ports, &key);

	return modes ? *modes : 0;
}

static __always_inline u32 modes_of_group(u64 cgroup_id)
{
	u32 *modes = bpf_map_lookup_elem(&capture_groups, &cgroup_id);

	return modes ? *modes : 0;
}

static __always_inline u32 modes_of_proc(u32 tgid)
{
	u32 *modes = bpf_map_lookup_elem(&capture_procs, &tgid);

	return modes ? *modes : 0;
}

/* A selected process listens: connections to this port are its own, before it has read from them. */
static __always_inline void capture_on_listen(struct sock *sk)
{
	u32 modes = modes_of_proc(current_tgid()) | modes_of_group(bpf_get_current_cgroup_id());
	struct listener key = {};

	if (!(modes & CAPTURE_INGRESS))
		return;
	key.netns = sock_netns_direct(sk);
	key.port = sk->__sk_common.skc_num;
	bpf_map_update_elem(&capture_ports, &key, &modes, BPF_ANY);
}

/* The verifier lets nobody add to the address of a socket: read back from memory it is a number like others. */
static __always_inline u32 capture_netns(u64 key)
{
	struct sock *sk = 0;

	bpf_probe_read_kernel(&sk, sizeof(sk), &key);
	return sock_netns_probe(sk);
}

/* Who owns the connection, in which role, and is it selected: fills the record's head; false: not selected. */
static __always_inline bool capture_selected(struct packet *packet, struct capture_record *record)
{
	u64 key = (u64)packet->sk;
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &key);
	u32 modes = capture_all;
	u32 wanted;

	record->role = packet->local_port < packet->peer_port ? ROLE_INCOMING : ROLE_OUTGOING;
	if (packet->sk->state == TCP_LISTEN) {
		record->role = ROLE_INCOMING;
		record->head.flags |= CAPTURE_LISTENER;
	}
	if (conn && conn->role != ROLE_UNKNOWN)
		record->role = conn->role;
	wanted = record->role == ROLE_INCOMING ? CAPTURE_INGRESS : CAPTURE_EGRESS;
	record->netns = capture_netns(key);
	if (conn && conn->owner.tgid) {
		record->owner = conn->owner;
		modes |= modes_of_proc(conn->owner.tgid) | modes_of_group(conn->owner.cgroup_id);
		return modes & wanted;
	}
	modes |= modes_of_group(bpf_skb_cgroup_id(packet->skb));
	if (modes & wanted)
		return true;
	record->head.flags |= CAPTURE_PROVISIONAL;
	return modes_of_port(record->netns, packet->local_port) & wanted;
}

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

static __always_inline bool capture_crowded(void)
{
	return bpf_ringbuf_query(&sonde_ring, BPF_RB_AVAIL_DATA) > capture_ring;
}

static __always_inline void capture_lost(u32 bytes)
{
	capture_count(CAPTURE_LOST, 1);
	capture_count(CAPTURE_BYTES_LOST, bytes);
}

/* Without data: begins, ends, and what is beyond the limit. */
static __always_inline bool capture_control(struct capture_record *record)
{
	if (capture_crowded() || bpf_ringbuf_output(&sonde_ring, record, sizeof(*record),
						    ring_flags(sizeof(*record)))) {
		capture_count(CAPTURE_LOST, 1);
		return false;
	}
	count(COUNT_RECORDS);
	capture_count(CAPTURE_CONTROLS, 1);
	return true;
}

/* A record with the `size` bytes of room of its class, since the ring takes only sizes that the verifier knows. */
#define DEFINE_CAPTURE_COPY(class, size) \
struct capture_##class { \
	struct capture_chunk chunk; \
	u8 data[size]; \
}; \
static __always_inline bool capture_copy_##class(struct __sk_buff *skb, u32 offset, u32 length, \
						 struct capture_chunk *chunk) \
{ \
	struct capture_##class *record; \
	asm volatile("" : "+r"(length)); /* the checks below are for the verifier: keep them */ \
	if (length == 0 || length > size) \
		return false; \
	record = bpf_ringbuf_reserve(&sonde_ring, sizeof(*record), 0); \
	if (!record) \
		return false; \
	chunk->length = length; \
	__builtin_memcpy(&record->chunk, chunk, sizeof(*chunk)); \
	if (bpf_skb_load_bytes(skb, offset, record->data, length)) { \
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP); \
		return false; \
	} \
	bpf_ringbuf_submit(record, ring_flags(sizeof(*record))); \
	return true; \
}

DEFINE_CAPTURE_COPY(large, CHUNK_LARGE)
DEFINE_CAPTURE_COPY(medium, CHUNK_MEDIUM)
DEFINE_CAPTURE_COPY(small, CHUNK_SMALL)
DEFINE_CAPTURE_COPY(tiny, CHUNK_TINY)

/*
 * Copies the next chunk of `left` bytes: full ones as long as they can be, so that little of the ring is empty room. The
 * number of bytes that it took; 0: no room. A global function, which the verifier proves once and not for each packet's
 * every chunk: its arguments are therefore numbers.
 */
__noinline int capture_copy(struct __sk_buff *skb, u32 offset, u32 left, u64 cookie, u64 seq_side)
{
	struct capture_chunk chunk = {
		.head = { .kind = RECORD_CAPTURE, .flags = CAPTURE_DATA },
		.cookie = cookie,
		.time_ns = bpf_ktime_get_boot_ns(),
		.seq = seq_side >> 1,
	};
	u32 size = left;
	bool done;

	if (capture_crowded())
		return 0;
	if (seq_side & 1)
		chunk.head.flags |= CAPTURE_RESPONSE;
	if (left >= CHUNK_LARGE) {
		size = CHUNK_LARGE;
		done = capture_copy_large(skb, offset, size, &chunk);
	} else if (left > CHUNK_SMALL) {
		size = left > CHUNK_MEDIUM ? CHUNK_MEDIUM : left;
		done = capture_copy_medium(skb, offset, size, &chunk);
	} else if (left > CHUNK_TINY) {
		done = capture_copy_small(skb, offset, size, &chunk);
	} else {
		done = capture_copy_tiny(skb, offset, size, &chunk);
	}
	if (!done)
		return 0;
	count(COUNT_RECORDS);
	capture_count(CAPTURE_CHUNKS, 1);
	return size;
}

/* `length` bytes of the payload from its beginning; what found no room is counted, and shows as a hole. */
static __always_inline void capture_payload(struct packet *packet, u32 length, u64 cookie, u8 side)
{
	u32 at = 0;

	for (int i = 0; i < CHUNKS_MAX && at < length; i++) {
		u64 seq = packet->seq + at;
		u32 size = capture_copy(packet->skb, packet->payload_offset + at, length - at,
					cookie, seq << 1 | side);

		if (!size)
			break;
		at += size;
	}
	capture_count(CAPTURE_COPIED, at);
	if (at < length)
		capture_lost(length - at);
}

/* The beginnings of methods: what else a client sends first is another protocol. */
static __always_inline bool is_request(u32 word)
{
	switch (word & bpf_htonl(0xffffff00)) {
	case bpf_htonl(0x47455400): /* GET */
	case bpf_htonl(0x504f5300): /* POS T */
	case bpf_htonl(0x50555400): /* PUT */
	case bpf_htonl(0x48454100): /* HEA D */
	case bpf_htonl(0x44454c00): /* DEL ETE */
	case bpf_htonl(0x50415400): /* PAT CH */
	case bpf_htonl(0x4f505400): /* OPT IONS */
	case bpf_htonl(0x434f4e00): /* CON NECT */
	case bpf_htonl(0x54524100): /* TRA CE */
	case bpf_htonl(0x50524f00): /* PRO PFIND, PROPPATCH */
	case bpf_htonl(0x4d4b4300): /* MKC OL */
	case bpf_htonl(0x434f5000): /* COP Y */
	case bpf_htonl(0x4d4f5600): /* MOV E */
	case bpf_htonl(0x4c4f4300): /* LOC K */
	case bpf_htonl(0x554e4c00): /* UNL OCK */
	case bpf_htonl(0x52455000): /* REP ORT */
	case bpf_htonl(0x53454100): /* SEA RCH */
	case bpf_htonl(0x50555200): /* PUR GE */
	case bpf_htonl(0x51554500): /* QUE RY */
		return true;
	}
	return false;
}

/*
 * Capture of a connection begins with a request, so that other protocols cost nothing and are not copied. A segment that
 * overtook the connection's first begins it, too.
 */
static __always_inline bool capture_begins(struct packet *packet, struct capture_record *record,
					   struct bpf_tcp_sock *tp)
{
	u32 word = 0;

	if (record->side != SIDE_REQUEST)
		return false;
	if (packet->ingress && tp && !tp->bytes_received && packet->seq != tp->rcv_nxt)
		return true;
	if (packet->payload_length < sizeof(word))
		return true; /* one byte at a time */
	return !bpf_skb_load_bytes(packet->skb, packet->payload_offset, &word, sizeof(word)) &&
	       is_request(word);
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
	struct capture_conn fresh = { .left = { capture_max, capture_max } };
	struct bpf_tcp_sock *tp;

	if (known && record->time_ns - known->last_ns < CONN_IDLE_NS)
		return known;
	tp = bpf_tcp_sock(packet->sk);
	if (!tp || !(capture_begins(packet, record, tp) || capture_began_early(record)))
		return 0;
	record->head.flags |= CAPTURE_OPEN;
	record->seq = packet->ingress ? tp->rcv_nxt : tp->snd_una;
	record->ack_seq = packet->ingress ? tp->snd_una : tp->rcv_nxt;
	fresh.owner_told = record->owner.tgid != 0;
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
	bool server;

	if (packet->protocol != IPPROTO_TCP || !packet->sk || packet->tcp_flags & TCP_FLAG_SYN)
		return;
	if (!capture_selected(packet, &record) || !capture_ends(packet, &record))
		return;
	server = record.role == ROLE_INCOMING;
	record.side = server == packet->ingress ? SIDE_REQUEST : SIDE_RESPONSE;
	record.cookie = bpf_get_socket_cookie(packet->skb);
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
