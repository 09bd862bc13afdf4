/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Requests of block devices, where they are done. The kernel keeps in a request when it was made, so that no other hook and no
 * map of requests under way is needed. Who asked is not known there, and often not at all: writes are made by the kernel's own
 * threads. Decoder: probes/block_io/block_io.ts.
 */
#ifndef SONDE_BLOCK_IO_H
#define SONDE_BLOCK_IO_H

#include "front.bpf.h"
#include "histogram.bpf.h"

#define REQ_OP_MASK 0xff
#define DISK_NAME_LENGTH 32

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
	int major;
	int first_minor;
	char disk_name[DISK_NAME_LENGTH];
};

struct request_queue {
	struct gendisk *disk;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	u64 start_time_ns;
};

/* Before 5.17. */
struct request___old {
	struct gendisk *rq_disk;
};

#pragma clang attribute pop

/* 8 bytes, and never all 0: no disk has major number 0. */
struct block_key {
	u32 device; /* major << 20 | minor, as the kernel's dev_t */
	u32 operation; /* the kernel's REQ_OP_… */
};

#define MINOR_BITS 20

struct block_sums {
	char device[DISK_NAME_LENGTH];
	u64 requests;
	u64 errors;
	u64 bytes;
	struct histogram latency; /* ns, since the request was made: time in the queue is part of it */
	struct histogram size; /* bytes */
};

/* In words: three counts, two histograms. */
#define BLOCK_WORDS (3 + 2 * sizeof(struct histogram) / sizeof(u64))

DEFINE_TURNS(block_io, struct block_key, struct block_sums, 256)
DEFINE_FRONT(block_io, struct block_key, struct block_sums, requests, BLOCK_WORDS, 4)

/* The sums of a slot, as they stand in `struct block_sums`. */
struct block_slot_sums {
	u64 requests;
	u64 errors;
	u64 bytes;
	struct histogram latency;
	struct histogram size;
};

const struct block_sums no_block_sums = {};

/* Plain loads: the kernel checks pointers that begin at an argument of such a program itself. */
static __always_inline struct gendisk *disk_of(struct request *request)
{
	struct request___old *old = (void *)request;

	if (bpf_core_field_exists(old->rq_disk))
		return old->rq_disk;
	return request->q->disk;
}

static __always_inline u64 block_key_of(struct gendisk *disk, u32 flags)
{
	u32 device = (u32)disk->major << MINOR_BITS | (u32)disk->first_minor;

	return device | (u64)(flags & REQ_OP_MASK) << 32;
}

/* `made_ns`: 0 where the device keeps no statistics; `left`: bytes that this part ends are not the last ones. */
struct block_event {
	u64 made_ns;
	u64 bytes;
	bool failed;
	bool left;
};

static __always_inline void block_add_alone(struct block_slot_sums *sums,
					    const struct block_event *event)
{
	sums->bytes += event->bytes;
	if (event->left)
		return;
	sums->requests += 1;
	sums->errors += event->failed;
	histogram_add_alone(&sums->size, event->bytes);
	if (event->made_ns)
		histogram_add_alone(&sums->latency, bpf_ktime_get_ns() - event->made_ns);
}

static __always_inline void block_add(struct block_sums *sums, const struct block_event *event)
{
	TURN_ADD(sums->bytes, event->bytes);
	if (event->left)
		return;
	TURN_ADD(sums->requests, 1);
	if (event->failed)
		TURN_ADD(sums->errors, 1);
	histogram_add(&sums->size, event->bytes);
	if (event->made_ns)
		histogram_add(&sums->latency, bpf_ktime_get_ns() - event->made_ns);
}

/* A device and operation that has no slot on this CPU. */
static __noinline int block_at_entry(struct request *request, u64 known, u32 turn,
				     const struct block_event *event)
{
	u64 key = known;
	struct block_sums *sums = block_io_find_in(turn, (struct block_key *)&key);
	struct block_io_slot *slot;

	if (!sums) {
		sums = block_io_make_in(turn, (struct block_key *)&key,
					(struct block_sums *)&no_block_sums);
		if (!sums) {
			count(COUNT_BLOCK_FULL);
			return 0;
		}
		BPF_CORE_READ_STR_INTO(&sums->device, disk_of(request), disk_name);
	}
	block_add(sums, event);
	slot = block_io_slot_of(turn, key);
	if (slot)
		block_io_settle(turn, slot, key, sums->requests);
	return 0;
}

/* A request is done, or a part of it: the last part is as long as what is left. The kernel never lets it interrupt itself. */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_complete, struct request *request, int error, u32 bytes)
{
	struct gendisk *disk = disk_of(request);
	struct block_event event = {
		.made_ns = request->start_time_ns,
		.bytes = bytes,
		.failed = error != 0,
		.left = bytes < request->__data_len,
	};
	struct block_io_slot *slot;
	u32 turn = turn_now();
	u64 key;

	if (!disk)
		return 0; /* a command to a controller */
	key = block_key_of(disk, request->cmd_flags);
	slot = block_io_slot_of(turn, key);
	if (slot && slot->key == key)
		block_add_alone((struct block_slot_sums *)slot->sums, &event);
	else
		block_at_entry(request, key, turn, &event);
	return 0;
}

#endif
