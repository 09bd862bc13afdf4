/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Whose connections are captured. Written by src/collector/capture_select.ts, and by listen() of who is selected.
 */
#ifndef SONDE_CAPTURE_SELECT_H
#define SONDE_CAPTURE_SELECT_H

#include "../http/parse.bpf.h"
#include "../tcp/conn.bpf.h"
#include "copy.bpf.h"

/* Values: enum capture_mode, ORed. */
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

const volatile u32 capture_all = 0; /* enum capture_mode of everybody */

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

/* A request of HTTP/1 begins here, or what may be the first bytes of one. */
static __always_inline bool starts_request(struct packet *packet)
{
	return http_line(packet->skb, packet->payload_offset, packet->payload_length);
}

/* Which end the socket is of: as the tcp source knows it, else as whose request comes first shows. */
static __always_inline u8 capture_role(struct packet *packet, struct conn *conn, u8 known)
{
	if (packet->sk->state == TCP_LISTEN)
		return ROLE_INCOMING;
	if (conn && conn->role != ROLE_UNKNOWN)
		return conn->role;
	if (known != ROLE_UNKNOWN || !starts_request(packet))
		return known;
	return packet->ingress ? ROLE_INCOMING : ROLE_OUTGOING;
}

/* False: the entry of the tcp source is of a former socket at this address. */
static __always_inline bool is_conn_of(struct conn *conn, u64 key)
{
	struct sock *sk = 0;

	bpf_probe_read_kernel(&sk, sizeof(sk), &key);
	return conn->ident == sock_ident_probe(sk);
}

/* The modes in which the connection is selected: what most connections go through, so as little as can be. */
static __always_inline u32 capture_modes(struct packet *packet, struct conn *conn,
					 struct capture_record *record)
{
	u32 modes = capture_all;
	u32 by_port;

	if (conn && conn->owner.tgid)
		return modes | modes_of_proc(conn->owner.tgid) |
		       modes_of_group(conn->owner.cgroup_id);
	modes |= modes_of_group(bpf_skb_cgroup_id(packet->skb));
	if (modes & CAPTURE_INGRESS)
		return modes;
	by_port = modes_of_port(capture_netns((u64)packet->sk), packet->local_port);
	if (by_port & CAPTURE_INGRESS)
		record->head.flags |= CAPTURE_PROVISIONAL;
	return modes | (by_port & CAPTURE_INGRESS);
}

#endif
