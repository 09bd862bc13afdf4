/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Requests of block devices, where they are done. The kernel keeps in a request when it was made, so that no other hook and no
 * map of requests under way is needed. Who asked is not known there, and often not at all: writes are made by the kernel's own
 * threads. Decoder: probes/block_io/block_io.ts.
 */
#ifndef SONDE_BLOCK_IO_H
#define SONDE_BLOCK_IO_H

#include "histogram.bpf.h"
#include "turns.bpf.h"

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

struct block_key {
	u32 major;
	u32 minor;
	u32 operation; /* the kernel's REQ_OP_… */
};

struct block_sums {
	char device[DISK_NAME_LENGTH];
	u64 requests;
	u64 errors;
	u64 bytes;
	struct histogram latency; /* ns, since the request was made: time in the queue is part of it */
	struct histogram size; /* bytes */
};

DEFINE_TURNS(block_io, struct block_key, struct block_sums, 256)

const struct block_sums no_block_sums = {};

static __always_inline struct gendisk *disk_of(struct request *request)
{
	struct request___old *old = (void *)request;

	if (bpf_core_field_exists(old->rq_disk))
		return BPF_CORE_READ(old, rq_disk);
	return BPF_CORE_READ(request, q, disk);
}

static __always_inline struct block_sums *block_sums_of(struct block_key *key,
							struct gendisk *disk)
{
	struct block_sums *sums = block_io_find(key);

	if (sums)
		return sums;
	sums = block_io_make(key, (struct block_sums *)&no_block_sums);
	if (sums)
		BPF_CORE_READ_STR_INTO(&sums->device, disk, disk_name);
	else
		count(COUNT_BLOCK_FULL);
	return sums;
}

/* A request is done, or a part of it: the last part is as long as what is left. */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_complete, struct request *request, int error, u32 bytes)
{
	struct gendisk *disk = disk_of(request);
	struct block_key key = { .operation = request->cmd_flags & REQ_OP_MASK };
	u64 made_ns = request->start_time_ns;
	struct block_sums *sums;

	if (!disk)
		return 0; /* a command to a controller */
	key.major = BPF_CORE_READ(disk, major);
	key.minor = BPF_CORE_READ(disk, first_minor);
	sums = block_sums_of(&key, disk);
	if (!sums)
		return 0;
	TURN_ADD(sums->bytes, (u64)bytes);
	if (bytes < request->__data_len)
		return 0;
	TURN_ADD(sums->requests, 1);
	if (error)
		TURN_ADD(sums->errors, 1);
	histogram_add(&sums->size, bytes);
	if (made_ns) /* 0 where the device keeps no statistics */
		histogram_add(&sums->latency, bpf_ktime_get_ns() - made_ns);
	return 0;
}

#endif
