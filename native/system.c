// SPDX-License-Identifier: Apache-2.0
// What belongs to no object: statistics, wakers, probes of what the kernel can do, the memlock
// limit.
#define _GNU_SOURCE
#include "sonde_bpf.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TYPES_MAX 256

// The names come from the kernel header that the addon is built with.
static const char *const helper_names[] = {
#define HELPER_NAME(name, ...) [BPF_FUNC_##name] = #name
	__BPF_FUNC_MAPPER(HELPER_NAME)
};

// statsEnable() → handle: the kernel counts runs while it, or another of the kind, is open
static napi_value stats_enable(napi_env env, napi_callback_info info)
{
	int fd;

	(void)info;
	log_begin();
	fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (fd < 0)
		return throw_errno(env, errno, "Cannot enable program statistics");
	return fd_handle_new(env, HANDLE_FD, fd);
}

// wakerOpen(fd | -1) → handle of a new eventfd, or of a duplicate of this one
static napi_value waker_open(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	int from = call_i32(&call, 0);
	int fd;

	if (call.failed)
		return NULL;
	fd = from < 0 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : fcntl(from, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return throw_errno(env, errno, "Cannot open a waker");
	return fd_handle_new(env, HANDLE_FD, fd);
}

// wakerWake(waker)
static napi_value waker_wake(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct handle *waker = call_handle(&call, 0, HANDLE_FD);
	uint64_t one = 1;

	if (!waker)
		return NULL;
	// EAGAIN: the counter is full, so a wake-up is due anyway.
	if (write(waker->fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return throw_errno(env, errno, "Cannot wake");
	return NULL;
}

static int program_type_of(const char *name)
{
	for (int i = 0; i < TYPES_MAX; i++) {
		const char *known = libbpf_bpf_prog_type_str(i);

		if (known && strcmp(known, name) == 0)
			return i;
	}
	return -1;
}

static int map_type_of(const char *name)
{
	for (int i = 0; i < TYPES_MAX; i++) {
		const char *known = libbpf_bpf_map_type_str(i);

		if (known && strcmp(known, name) == 0)
			return i;
	}
	return -1;
}

static int helper_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(helper_names); i++)
		if (helper_names[i] && strcmp(helper_names[i], name) == 0)
			return (int)i;
	return -1;
}

void signals_hold(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, before);
}

void signals_release(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

static enum bpf_attach_type attach_type_for(enum bpf_prog_type type)
{
	switch (type) {
	case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
		return BPF_CGROUP_INET4_CONNECT;
	case BPF_PROG_TYPE_CGROUP_SOCKOPT:
		return BPF_CGROUP_GETSOCKOPT;
	case BPF_PROG_TYPE_SK_LOOKUP:
		return BPF_SK_LOOKUP;
	default:
		return 0;
	}
}

// libbpf 1.1 takes any refusal but "unknown func" and "invalid func" for a yes (a helper whose
// arguments are wrong is there). Since 6.10 the kernel says it in other words.
static bool helper_refused(enum bpf_prog_type type, int helper)
{
	const struct bpf_insn program[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = helper },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	char log[4096] = "";
	LIBBPF_OPTS(bpf_prog_load_opts, options, .log_buf = log, .log_size = sizeof(log),
	            .log_level = 1, .expected_attach_type = attach_type_for(type));
	int fd = bpf_prog_load(type, NULL, "GPL", program, ARRAY_LENGTH(program), &options);

	if (fd >= 0)
		close(fd);
	return fd < 0 && strstr(log, "cannot use helper") != NULL;
}

// probe('program' | 'map' | 'helper', type name, helper name | null) → 1 yes, 0 no, −errno unknown.
// A name that this build does not know is −ENOENT.
static napi_value probe(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	struct text kind_text, type_text, helper_text;
	const char *kind = call_text(&call, 0, &kind_text);
	const char *type_name = call_text(&call, 1, &type_text);
	const char *helper_name = call_text(&call, 2, &helper_text);
	int type, helper, result;
	sigset_t signals;

	if (call.failed || !kind || !type_name)
		return NULL;
	type = kind[0] == 'm' ? map_type_of(type_name) : program_type_of(type_name);
	helper = helper_name ? helper_of(helper_name) : -1;
	if (type < 0 || (kind[0] == 'h' && helper < 0))
		return value_number(env, -ENOENT);
	signals_hold(&signals);
	if (kind[0] == 'm')
		result = libbpf_probe_bpf_map_type(type, NULL);
	else if (kind[0] == 'p')
		result = libbpf_probe_bpf_prog_type(type, NULL);
	else
		result = libbpf_probe_bpf_helper(type, helper, NULL);
	if (kind[0] == 'h' && result == 1 && helper_refused(type, helper))
		result = 0;
	signals_release(&signals);
	return value_number(env, result);
}

// raiseMemlock() → the limit is gone; without CAP_SYS_RESOURCE it goes as high as it may
static napi_value raise_memlock(napi_env env, napi_callback_info info)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	(void)info;
	log_begin();
	if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0)
		return value_bool(env, true);
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0)
			return value_bool(env, limit.rlim_cur == RLIM_INFINITY);
	}
	return throw_errno(env, errno, "Cannot raise the locked memory limit");
}

static napi_value possible_cpus(napi_env env, napi_callback_info info)
{
	int count;

	(void)info;
	log_begin();
	count = libbpf_num_possible_cpus();
	if (count < 1)
		return throw_errno(env, -count, "Cannot count the possible CPUs");
	return value_number(env, count);
}

// programsWait() → waited: every program that ran when it was called has ended. The global barrier
// is the kernel's synchronize_rcu, and programs run within an RCU read section. Refused (false)
// where a CPU runs without ticks, or by a filter of system calls.
static napi_value programs_wait(napi_env env, napi_callback_info info)
{
	(void)info;
	return value_bool(env, syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0);
}

// memoryTrim(): what the C library holds free goes back to the kernel
static napi_value memory_trim(napi_env env, napi_callback_info info)
{
	(void)env;
	(void)info;
	malloc_trim(0);
	return NULL;
}

static const struct function functions[] = {
	{ "statsEnable", stats_enable },   { "wakerOpen", waker_open },
	{ "wakerWake", waker_wake },       { "probe", probe },
	{ "raiseMemlock", raise_memlock }, { "possibleCpus", possible_cpus },
	{ "memoryTrim", memory_trim },
	{ "programsWait", programs_wait },
};

void system_register(napi_env env, napi_value exports)
{
	register_functions(env, exports, functions, ARRAY_LENGTH(functions));
}
