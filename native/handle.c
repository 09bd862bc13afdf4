// SPDX-License-Identifier: Apache-2.0
// Handles: what JavaScript holds of the kernel's objects, closed once, and never a stale pointer.
#include "sonde_bpf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const napi_type_tag handle_tag = { 0x50de0b9f6e617469ULL, 0x9c1f3ad27b5e4480ULL };

const char *fd_kind(int fd)
{
	char path[64], target[64] = { 0 };

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (readlink(path, target, sizeof(target) - 1) <= 0)
		return "other";
	if (strstr(target, "bpf-map"))
		return "map";
	if (strstr(target, "bpf-prog"))
		return "prog";
	if (strstr(target, "bpf_link") || strstr(target, "bpf-link"))
		return "link";
	return "other";
}

static void handle_release(struct handle *handle)
{
	if (!handle->open)
		return;
	handle->open = false;
	if (handle->release)
		handle->release(handle);
	if (handle->fd >= 0)
		close(handle->fd);
	handle->fd = -1;
}

static void handle_finalize(napi_env env, void *data, void *hint)
{
	(void)env;
	(void)hint;
	handle_release(data);
	free(data);
}

napi_value handle_new(napi_env env, struct handle *handle)
{
	napi_value object;

	handle->open = true;
	if (napi_create_object(env, &object) != napi_ok ||
	    napi_type_tag_object(env, object, &handle_tag) != napi_ok ||
	    napi_wrap(env, object, handle, handle_finalize, NULL, NULL) != napi_ok) {
		handle_finalize(env, handle, NULL);
		return throw_code(env, "EADDON", "Cannot create a handle");
	}
	return object;
}

napi_value fd_handle_new(napi_env env, enum handle_kind kind, int fd)
{
	struct handle *handle = calloc(1, sizeof(*handle));

	if (!handle) {
		close(fd);
		return throw_errno(env, ENOMEM, "Cannot create a handle");
	}
	handle->kind = kind;
	handle->fd = fd;
	return handle_new(env, handle);
}

// Of no other object: not of one that inherits from a handle, nor of a proxy of one.
static struct handle *handle_of(napi_env env, napi_value value)
{
	napi_valuetype type = napi_undefined;
	struct handle *handle = NULL;
	bool ours = false;

	// Asked first, since the tag of what is no object throws.
	if (napi_typeof(env, value, &type) != napi_ok || type != napi_object)
		return NULL;
	if (napi_check_object_type_tag(env, value, &handle_tag, &ours) != napi_ok || !ours)
		return NULL;
	if (napi_unwrap(env, value, (void **)&handle) != napi_ok)
		return NULL;
	return handle;
}

void *call_handle(struct call *call, size_t index, enum handle_kind kind)
{
	struct handle *handle;

	if (call->failed)
		return NULL;
	handle = handle_of(call->env, call->argument[index]);
	if (!handle || (kind && handle->kind != kind)) {
		throw_code(call->env, "EARGUMENT", "Argument %zu is no handle of this kind", index);
		call->failed = true;
		return NULL;
	}
	if (kind && !handle->open) {
		throw_code(call->env, "ECLOSED", "The handle is closed");
		call->failed = true;
		return NULL;
	}
	return handle;
}

static napi_value handle_close(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct handle *handle = call_handle(&call, 0, 0);

	if (handle)
		handle_release(handle);
	return NULL;
}

static napi_value handle_fd(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct handle *handle = call_handle(&call, 0, 0);

	if (!handle)
		return NULL;
	if (!handle->open)
		return throw_code(env, "ECLOSED", "The handle is closed");
	return value_number(env, handle->fd);
}

static const struct function functions[] = {
	{ "close", handle_close },
	{ "fd", handle_fd },
};

void handle_register(napi_env env, napi_value exports)
{
	register_functions(env, exports, functions, ARRAY_LENGTH(functions));
}
