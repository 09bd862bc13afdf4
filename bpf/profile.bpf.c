// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The program of `sonde profile` (src/cli/profile.ts), an object of its own: on each tick of a processor it notes the stacks of the
 * process that runs there. Counts are kept by stack; nothing is sent. Reader: src/profile/sampler.ts.
 */
#include "kernel.bpf.h"

#define STACK_FRAMES 127 /* PERF_MAX_STACK_DEPTH: the kernel goes no deeper by default */
#define STACKS_MAX 16384
#define COUNTS_MAX 32768
#define EFAULT 14
#define EEXIST 17

enum profile_stack {
	PROFILE_NONE = -1,  /* a kernel thread, or the program was not in the kernel */
	PROFILE_TAKEN = -2, /* another stack has the same hash: counted without its frames */
	PROFILE_FAILED = -3, /* the map is full, or the stack cannot be read */
};

struct profile_key {
	u32 tgid;
	s32 kernel_stack; /* in `profile_stacks`, or enum profile_stack */
	s32 user_stack;
	char comm[16];
};

struct profile_frames {
	u64 address[STACK_FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, STACKS_MAX);
	__type(key, u32);
	__type(value, struct profile_frames);
} profile_stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH); /* made whole: a tick may come at any moment */
	__uint(max_entries, COUNTS_MAX);
	__type(key, struct profile_key);
	__type(value, u64);
} profile_counts SEC(".maps");

enum profile_total {
	PROFILE_SAMPLES = 0, /* ticks that met a process */
	PROFILE_LOST = 1,    /* those that found `profile_counts` full */
	PROFILE_TOTALS = 2,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROFILE_TOTALS);
	__type(key, u32);
	__type(value, u64);
} profile_totals SEC(".maps");

/* Of one process alone; 0: of all. */
const volatile u32 profile_tgid = 0;

char _license[] SEC("license") = "Dual BSD/GPL";

static __always_inline void total(u32 which)
{
	u64 *slot = bpf_map_lookup_elem(&profile_totals, &which);

	if (slot)
		__sync_fetch_and_add(slot, 1);
}

static __always_inline s32 stack_of(void *ctx, u64 flags)
{
	long id = bpf_get_stackid(ctx, &profile_stacks, flags);

	if (id >= 0)
		return id;
	if (id == -EFAULT)
		return PROFILE_NONE;
	return id == -EEXIST ? PROFILE_TAKEN : PROFILE_FAILED;
}

SEC("perf_event")
int profile_tick(struct bpf_perf_event_data *ctx)
{
	struct profile_key key = { .tgid = bpf_get_current_pid_tgid() >> 32 };
	u64 one = 1, *count;

	if (!key.tgid || (profile_tgid && key.tgid != profile_tgid))
		return 0; /* an idle processor */
	total(PROFILE_SAMPLES);
	key.kernel_stack = stack_of(ctx, 0);
	key.user_stack = stack_of(ctx, BPF_F_USER_STACK);
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	count = bpf_map_lookup_elem(&profile_counts, &key);
	if (count) {
		__sync_fetch_and_add(count, 1);
		return 0;
	}
	if (!bpf_map_update_elem(&profile_counts, &key, &one, BPF_NOEXIST))
		return 0;
	count = bpf_map_lookup_elem(&profile_counts, &key); /* another processor was first */
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		total(PROFILE_LOST);
	return 0;
}
