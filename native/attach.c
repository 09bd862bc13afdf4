// SPDX-License-Identifier: Apache-2.0
// Attaching the programs of a loaded object. Each function takes (object, program index, …) and
// returns a link handle, or throws with libbpf's own words in the error's log.
#define _GNU_SOURCE
#include "sonde_bpf.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct bpf_program *call_loaded(struct call *call)
{
	struct object_handle *object = call_handle(call, 0, HANDLE_OBJECT);
	uint32_t index = call_u32(call, 1);

	if (call->failed)
		return NULL;
	if (index >= object->program_count) {
		throw_code(call->env, "EARGUMENT", "The object has no program %u", index);
		call->failed = true;
		return NULL;
	}
	if (bpf_program__fd(object->programs[index]) < 0) {
		throw_code(call->env, "ESTATE", "Program '%s' is not loaded",
		           bpf_program__name(object->programs[index]));
		call->failed = true;
		return NULL;
	}
	return object->programs[index];
}

static napi_value attached(napi_env env, struct bpf_program *program, struct bpf_link *link,
                           int error)
{
	if (!link)
		return throw_errno(env, error, "Cannot attach program '%s' (%s)",
		                   bpf_program__name(program), bpf_program__section_name(program));
	return link_handle_new(env, link, -1);
}

// attachAuto(object, program): as its section says
static napi_value attach_auto(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct bpf_program *program = call_loaded(&call);
	struct bpf_link *link;

	if (!program)
		return NULL;
	link = bpf_program__attach(program);
	return attached(env, program, link, errno);
}

// attachPath(object, program, 'cgroup' | 'netns', path): the folder of a cgroup, the file of a
// namespace
static napi_value attach_path(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 4);
	struct bpf_program *program = call_loaded(&call);
	struct text kind_text, path_text;
	const char *kind = call_text(&call, 2, &kind_text);
	const char *path = call_text(&call, 3, &path_text);
	struct bpf_link *link;
	int fd, error;

	if (call.failed || !kind || !path)
		return NULL;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return throw_errno(env, errno, "Cannot open '%s' to attach program '%s'", path,
		                   bpf_program__name(program));
	link = kind[0] == 'c' ? bpf_program__attach_cgroup(program, fd)
	                      : bpf_program__attach_netns(program, fd);
	error = errno;
	close(fd);
	return attached(env, program, link, error);
}

// attachXdp(object, program, interface index)
static napi_value attach_xdp(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	struct bpf_program *program = call_loaded(&call);
	int interface = call_i32(&call, 2);
	struct bpf_link *link;

	if (call.failed)
		return NULL;
	link = bpf_program__attach_xdp(program, interface);
	return attached(env, program, link, errno);
}

// attachIter(object, program, map descriptor | -1)
static napi_value attach_iter(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	struct bpf_program *program = call_loaded(&call);
	int map_fd = call_i32(&call, 2);
	LIBBPF_OPTS(bpf_iter_attach_opts, options);
	union bpf_iter_link_info target = { 0 };
	struct bpf_link *link;

	if (call.failed)
		return NULL;
	if (map_fd >= 0) {
		target.map.map_fd = (uint32_t)map_fd;
		options.link_info = &target;
		options.link_info_len = sizeof(target);
	}
	link = bpf_program__attach_iter(program, &options);
	return attached(env, program, link, errno);
}

// attachUprobe(object, program, path, symbol | null, offset, pid, ret)
// With a symbol the offset counts from it; without, it is an offset into the file.
static napi_value attach_uprobe(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 7);
	struct bpf_program *program = call_loaded(&call);
	struct text path_text, symbol_text;
	const char *path = call_text(&call, 2, &path_text);
	LIBBPF_OPTS(bpf_uprobe_opts, options);
	struct bpf_link *link;
	size_t offset;
	int pid;

	options.func_name = call_text(&call, 3, &symbol_text);
	offset = (size_t)call_number(&call, 4, 0, 9007199254740991.0);
	pid = call_i32(&call, 5);
	options.retprobe = call_bool(&call, 6);
	if (call.failed || !path)
		return NULL;
	link = bpf_program__attach_uprobe_opts(program, pid, path, offset, &options);
	return attached(env, program, link, errno);
}

// attachUsdt(object, program, path, provider, name, pid)
static napi_value attach_usdt(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 6);
	struct bpf_program *program = call_loaded(&call);
	struct text path_text, provider_text, name_text;
	const char *path = call_text(&call, 2, &path_text);
	const char *provider = call_text(&call, 3, &provider_text);
	const char *name = call_text(&call, 4, &name_text);
	int pid = call_i32(&call, 5);
	struct bpf_link *link;

	if (call.failed || !path || !provider || !name)
		return NULL;
	link = bpf_program__attach_usdt(program, pid, path, provider, name, NULL);
	return attached(env, program, link, errno);
}

// attachNamed(object, program, 'kprobe' | 'kretprobe' | 'raw' | 'tracepoint', name, category |
// null)
static napi_value attach_named(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 5);
	struct bpf_program *program = call_loaded(&call);
	struct text kind_text, name_text, category_text;
	const char *kind = call_text(&call, 2, &kind_text);
	const char *name = call_text(&call, 3, &name_text);
	const char *category = call_text(&call, 4, &category_text);
	struct bpf_link *link;

	if (call.failed || !kind || !name)
		return NULL;
	if (kind[0] == 'k')
		link = bpf_program__attach_kprobe(program, kind[1] == 'r', name);
	else if (kind[0] == 'r')
		link = bpf_program__attach_raw_tracepoint(program, name);
	else
		link = bpf_program__attach_tracepoint(program, category ? category : "", name);
	return attached(env, program, link, errno);
}

// attachPerf(object, program, type, config, sample, byFrequency, pid, cpu)
static napi_value attach_perf(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 8);
	struct bpf_program *program = call_loaded(&call);
	struct perf_event_attr attributes = { .size = sizeof(attributes) };
	struct bpf_link *link;
	int pid, cpu, fd, error;

	attributes.type = call_u32(&call, 2);
	attributes.config = (uint64_t)call_number(&call, 3, 0, 9007199254740991.0);
	attributes.sample_period = (uint64_t)call_number(&call, 4, 1, 9007199254740991.0);
	attributes.freq = call_bool(&call, 5);
	pid = call_i32(&call, 6);
	cpu = call_i32(&call, 7);
	if (call.failed)
		return NULL;
	fd = (int)syscall(SYS_perf_event_open, &attributes, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return throw_errno(env, errno, "Cannot open a perf event for program '%s'",
		                   bpf_program__name(program));
	// The link owns the descriptor from here on.
	link = bpf_program__attach_perf_event(program, fd);
	error = errno;
	if (!link)
		close(fd);
	return attached(env, program, link, error);
}

static const struct function functions[] = {
	{ "attachAuto", attach_auto },     { "attachPath", attach_path },
	{ "attachXdp", attach_xdp },       { "attachIter", attach_iter },
	{ "attachUprobe", attach_uprobe }, { "attachUsdt", attach_usdt },
	{ "attachNamed", attach_named },   { "attachPerf", attach_perf },
};

void attach_register(napi_env env, napi_value exports)
{
	register_functions(env, exports, functions, ARRAY_LENGTH(functions));
}
