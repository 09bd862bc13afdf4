/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How much a source does. The collector writes it when a source costs more than its budget (src/collector/budget.ts):
 * 0 all of it, then the steps that the probe names, and beyond the last of them nothing.
 */
#ifndef SONDE_LEVEL_H
#define SONDE_LEVEL_H

#include "kernel.bpf.h"

/* One slot for each source that has steps of its own in the kernel, or a part in a hook that others use as well. */
enum level_source {
	LEVEL_UDP = 0,
	LEVEL_SYSCALLS = 1,
	LEVEL_FILEIO = 2,
	LEVEL_MAX = 16,
};

/* Nothing at all. */
#define LEVEL_OFF 255

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LEVEL_MAX);
	__type(key, u32);
	__type(value, u32);
} sonde_levels SEC(".maps");

static __always_inline u32 level_of(u32 source)
{
	u32 *level = bpf_map_lookup_elem(&sonde_levels, &source);

	return level ? *level : 0;
}

#endif
