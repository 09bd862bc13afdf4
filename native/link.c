// SPDX-License-Identifier: Apache-2.0
// Links and programs by descriptor, pins, and the passes of an iterator.
#define _GNU_SOURCE
#include "sonde_bpf.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// bpf_seq_read answers EAGAIN after a million objects without output; each retry goes on from
// there.
#define ITER_RETRIES_MAX 10000

// Destroying a perf link disables its event even where a pin holds the link, so a pinned link is
// let go first. Its perf descriptor then stays open until the process ends: libbpf does not give it
// out.
static void link_release(struct handle *handle)
{
	struct link_handle *link = (struct link_handle *)handle;

	if (!link->link)
		return;
	if (link->pinned) {
		int fd = bpf_link__fd(link->link);

		bpf_link__disconnect(link->link);
		if (fd >= 0)
			close(fd);
	}
	bpf_link__destroy(link->link);
	link->link = NULL;
	handle->fd = -1;
}

napi_value link_handle_new(napi_env env, struct bpf_link *link, int fd)
{
	struct link_handle *handle = calloc(1, sizeof(*handle));

	if (!handle) {
		if (link)
			bpf_link__destroy(link);
		else
			close(fd);
		return throw_errno(env, ENOMEM, "Cannot create a handle");
	}
	handle->base.kind = HANDLE_LINK;
	handle->base.release = link_release;
	handle->base.fd = link ? bpf_link__fd(link) : fd;
	handle->link = link;
	return handle_new(env, &handle->base);
}

// openPinned(path, 'map' | 'prog' | 'link') → handle
static napi_value open_pinned(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct text path_text, kind_text;
	const char *path = call_text(&call, 0, &path_text);
	const char *kind = call_text(&call, 1, &kind_text);
	int fd;

	if (call.failed || !path || !kind)
		return NULL;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return throw_errno(env, errno, "Cannot open the pin '%s'", path);
	if (strcmp(fd_kind(fd), kind) != 0) {
		const char *found = fd_kind(fd);

		close(fd);
		return throw_code(env, "EARGUMENT", "The pin '%s' is a %s, not a %s", path, found,
		                  kind);
	}
	if (kind[0] == 'm')
		return map_handle_new(env, fd);
	if (kind[0] == 'p')
		return fd_handle_new(env, HANDLE_PROGRAM, fd);
	return link_handle_new(env, NULL, fd);
}

// pin(handle, path)
static napi_value pin(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct handle *handle = call_handle(&call, 0, 0);
	struct text text;
	const char *path = call_text(&call, 1, &text);

	if (call.failed || !path)
		return NULL;
	if (!handle->open)
		return throw_code(env, "ECLOSED", "The handle is closed");
	if (handle->kind != HANDLE_MAP && handle->kind != HANDLE_PROGRAM &&
	    handle->kind != HANDLE_LINK)
		return throw_code(env, "EARGUMENT", "Only maps, programs and links can be pinned");
	if (bpf_obj_pin(handle->fd, path))
		return throw_errno(env, errno, "Cannot pin to '%s'", path);
	if (handle->kind == HANDLE_LINK)
		((struct link_handle *)handle)->pinned = true;
	return NULL;
}

// linkSetPinned(link, flag): false once the last pin is removed, so that close detaches again
static napi_value link_set_pinned(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct link_handle *link = call_handle(&call, 0, HANDLE_LINK);
	bool flag = call_bool(&call, 1);

	if (!call.failed)
		link->pinned = flag;
	return NULL;
}

// linkInfo(link) → {id, type, typeName, programId}; ids are 0 for an attachment that has no kernel
// link
static napi_value link_info(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct link_handle *link = call_handle(&call, 0, HANDLE_LINK);
	struct bpf_link_info details = { 0 };
	uint32_t length = sizeof(details);
	const char *type_name = "none";
	napi_value item;

	if (!link)
		return NULL;
	if (strcmp(fd_kind(link->base.fd), "link") == 0) {
		if (bpf_obj_get_info_by_fd(link->base.fd, &details, &length))
			return throw_errno(env, errno, "Cannot read the link's description");
		type_name = libbpf_bpf_link_type_str(details.type);
	}
	napi_create_object(env, &item);
	set_number(env, item, "id", details.id);
	set_number(env, item, "type", details.type);
	set_text(env, item, "typeName", type_name ? type_name : "unknown");
	set_number(env, item, "programId", details.prog_id);
	return item;
}

// programInfo(program) → {id, name, type, typeName, tag, instructions, runCount, runTimeNs,
// recursionMisses}
static napi_value program_info(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct handle *program = call_handle(&call, 0, HANDLE_PROGRAM);
	struct bpf_prog_info details = { 0 };
	uint32_t length = sizeof(details);
	const char *type_name;
	char tag[2 * BPF_TAG_SIZE + 1];
	napi_value item;

	if (!program)
		return NULL;
	if (bpf_obj_get_info_by_fd(program->fd, &details, &length))
		return throw_errno(env, errno, "Cannot read the program's description");
	for (size_t i = 0; i < BPF_TAG_SIZE; i++)
		snprintf(tag + 2 * i, 3, "%02x", details.tag[i]);
	type_name = libbpf_bpf_prog_type_str(details.type);
	napi_create_object(env, &item);
	set_number(env, item, "id", details.id);
	set_text(env, item, "name", details.name);
	set_number(env, item, "type", details.type);
	set_text(env, item, "typeName", type_name ? type_name : "unknown");
	set_text(env, item, "tag", tag);
	set_number(env, item, "instructions", details.xlated_prog_len / 8);
	set_number(env, item, "verifiedInstructions", details.verified_insns);
	set_number(env, item, "runCount", (double)details.run_cnt);
	set_number(env, item, "runTimeNs", (double)details.run_time_ns);
	set_number(env, item, "recursionMisses", (double)details.recursion_misses);
	return item;
}

// programRun(program, data in | null, data out, context | null, repeat) → {result, durationNs,
// bytes}
static napi_value program_run(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 5);
	struct handle *program = call_handle(&call, 0, HANDLE_PROGRAM);
	LIBBPF_OPTS(bpf_test_run_opts, options);
	struct bytes in = { 0 }, out = { 0 }, context = { 0 };
	napi_value item;

	if (!call_is_null(&call, 1))
		in = call_bytes(&call, 1);
	if (!call_is_null(&call, 2))
		out = call_bytes(&call, 2);
	if (!call_is_null(&call, 3))
		context = call_bytes(&call, 3);
	options.repeat = call_i32(&call, 4);
	if (call.failed)
		return NULL;
	if (in.length > INT32_MAX || out.length > INT32_MAX || context.length > INT32_MAX)
		return throw_code(env, "ERANGE", "The buffer is too large");
	options.data_in = in.data;
	options.data_size_in = (uint32_t)in.length;
	options.data_out = out.data;
	options.data_size_out = (uint32_t)out.length;
	options.ctx_in = context.data;
	options.ctx_size_in = (uint32_t)context.length;
	if (bpf_prog_test_run_opts(program->fd, &options))
		return throw_errno(env, errno, "Cannot run the program");
	napi_create_object(env, &item);
	set_number(env, item, "result", options.retval);
	set_number(env, item, "durationNs", options.duration);
	set_number(env, item, "bytes", options.data_size_out);
	return item;
}

// programPrepare(type, config, path, offset) → link
// On an instruction of a file, in all processes: a perf event of the kernel's `uprobe` kind, which runs
// nothing yet. Setting the breakpoint is what takes time.
static napi_value program_prepare(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 4);
	struct perf_event_attr attributes = { .size = sizeof(attributes), .disabled = 1 };
	struct text text;
	const char *path;
	int fd;

	attributes.type = call_u32(&call, 0);
	attributes.config = (uint64_t)call_number(&call, 1, 0, 9007199254740991.0);
	path = call_text(&call, 2, &text);
	attributes.config1 = (uint64_t)(uintptr_t)path;
	attributes.config2 = (uint64_t)call_number(&call, 3, 0, 9007199254740991.0);
	if (call.failed || !path)
		return NULL;
	// Processor 0 stands for all: the breakpoint is in the file's pages, whoever runs them.
	fd = (int)syscall(SYS_perf_event_open, &attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return throw_errno(env, errno, "Cannot place a program on '%s'", path);
	return link_handle_new(env, NULL, fd);
}

// programStart(program, link of programPrepare)
// Needs no object, so that a program that was opened from a pin can be placed as well. Kernels before
// 5.15 have no links of perf events: the descriptor stays that of the event, which cannot be pinned.
static napi_value program_start(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct handle *program = call_handle(&call, 0, HANDLE_PROGRAM);
	struct link_handle *link = call_handle(&call, 1, HANDLE_LINK);
	int event, fd;

	if (!program || !link)
		return NULL;
	event = link->base.fd;
	fd = bpf_link_create(program->fd, event, BPF_PERF_EVENT, NULL);
	if ((fd < 0 && ioctl(event, PERF_EVENT_IOC_SET_BPF, program->fd)) ||
	    ioctl(event, PERF_EVENT_IOC_ENABLE, 0)) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		return throw_errno(env, error, "Cannot run the program where it was placed");
	}
	if (fd >= 0) {
		close(event); // the link holds it
		link->base.fd = fd;
	}
	return NULL;
}

// iterOpen(link) → handle of one pass
static napi_value iter_open(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct link_handle *link = call_handle(&call, 0, HANDLE_LINK);
	int fd;

	if (!link)
		return NULL;
	fd = bpf_iter_create(link->base.fd);
	if (fd < 0)
		return throw_errno(env, errno, "Cannot start a pass of the iterator");
	return fd_handle_new(env, HANDLE_FD, fd);
}

// iterRead(pass, into) → bytes; fewer than asked for only at the end of the pass
static napi_value iter_read(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct handle *pass = call_handle(&call, 0, HANDLE_FD);
	struct bytes into = call_bytes(&call, 1);
	size_t done = 0;
	int retries = 0;

	if (call.failed)
		return NULL;
	while (done < into.length) {
		ssize_t count = read(pass->fd, into.data + done, into.length - done);

		if (count == 0)
			break;
		if (count < 0 && (errno == EAGAIN || errno == EINTR) &&
		    ++retries < ITER_RETRIES_MAX)
			continue;
		if (count < 0)
			return throw_errno(env, errno, "Cannot read from the iterator");
		done += (size_t)count;
	}
	return value_number(env, (double)done);
}

static const struct function functions[] = {
	{ "openPinned", open_pinned },
	{ "pin", pin },
	{ "linkSetPinned", link_set_pinned },
	{ "linkInfo", link_info },
	{ "programInfo", program_info },
	{ "programRun", program_run },
	{ "programPrepare", program_prepare },
	{ "programStart", program_start },
	{ "iterOpen", iter_open },
	{ "iterRead", iter_read },
};

void link_register(napi_env env, napi_value exports)
{
	register_functions(env, exports, functions, ARRAY_LENGTH(functions));
}
