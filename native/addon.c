// SPDX-License-Identifier: Apache-2.0
// The module itself: handles, errors and libbpf's text. Arguments are read in value.c.
#define _GNU_SOURCE
#include "sonde_bpf.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_MAX (64 * 1024)

static const napi_type_tag handle_tag = { 0x50de0b9f6e617469ULL, 0x9c1f3ad27b5e4480ULL };

// One for each environment: the main thread and every Worker have their own.
struct instance {
	napi_ref make_error;
};

static __thread char log_text[LOG_MAX];
static __thread size_t log_length;

void log_begin(void)
{
	log_length = 0;
	log_text[0] = '\0';
}

// Keeps the end of what was said: the cause stands last.
static int log_print(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char line[1024];
	int length;

	if (level == LIBBPF_DEBUG)
		return 0;
	length = vsnprintf(line, sizeof(line), format, arguments);
	if (length <= 0)
		return 0;
	if ((size_t)length >= sizeof(line))
		length = sizeof(line) - 1;
	if (log_length + (size_t)length >= LOG_MAX) {
		size_t keep = LOG_MAX / 2;

		memmove(log_text, log_text + log_length - keep, keep);
		log_length = keep;
	}
	memcpy(log_text + log_length, line, (size_t)length);
	log_length += (size_t)length;
	log_text[log_length] = '\0';
	return length;
}

static napi_value text_or_null(napi_env env, const char *text)
{
	napi_value value;

	if (text)
		return value_text(env, text);
	napi_get_null(env, &value);
	return value;
}

// Calls makeError(message, errno, code, log, program, verifierLog) of src/bpf/error.ts and throws
// its result.
static napi_value throw_full(napi_env env, const char *message, int error, const char *code,
                             const char *log, const char *program, const char *verifier_log)
{
	struct instance *instance = NULL;
	napi_value make_error = NULL, undefined, thrown, arguments[6];

	napi_get_instance_data(env, (void **)&instance);
	if (instance && instance->make_error)
		napi_get_reference_value(env, instance->make_error, &make_error);
	if (!make_error) {
		napi_throw_error(env, code, message);
		return NULL;
	}
	napi_get_undefined(env, &undefined);
	arguments[0] = value_text(env, message);
	arguments[1] = value_number(env, error);
	arguments[2] = text_or_null(env, code);
	arguments[3] = text_or_null(env, log);
	arguments[4] = text_or_null(env, program);
	arguments[5] = text_or_null(env, verifier_log);
	if (napi_call_function(env, undefined, make_error, 6, arguments, &thrown) == napi_ok)
		napi_throw(env, thrown);
	return NULL;
}

napi_value throw_errno(napi_env env, int error, const char *format, ...)
{
	char message[1024], reason[256];
	va_list arguments;
	size_t length;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	libbpf_strerror(error, reason, sizeof(reason));
	length = strlen(message);
	snprintf(message + length, sizeof(message) - length, ": %s", reason);
	return throw_full(env, message, error, NULL, log_text, NULL, NULL);
}

napi_value throw_code(napi_env env, const char *code, const char *format, ...)
{
	char message[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	return throw_full(env, message, 0, code, NULL, NULL, NULL);
}

napi_value throw_with_log(napi_env env, int error, const char *message, const char *program,
                          const char *verifier_log)
{
	char text[1024], reason[256];

	libbpf_strerror(error, reason, sizeof(reason));
	snprintf(text, sizeof(text), "%s: %s", message, reason);
	return throw_full(env, text, error, NULL, log_text, program, verifier_log);
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

static void instance_finalize(napi_env env, void *data, void *hint)
{
	(void)env;
	(void)hint;
	free(data);
}

static napi_value set_error_factory(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct instance *instance = NULL;
	napi_valuetype type = napi_undefined;

	napi_get_instance_data(env, (void **)&instance);
	if (call.failed || !instance)
		return NULL;
	napi_typeof(env, call.argument[0], &type);
	if (type != napi_function)
		return throw_code(env, "EARGUMENT", "Argument 0 must be a function");
	if (instance->make_error)
		napi_delete_reference(env, instance->make_error);
	instance->make_error = NULL;
	napi_create_reference(env, call.argument[0], 1, &instance->make_error);
	return NULL;
}

static napi_value libbpf_version(napi_env env, napi_callback_info info)
{
	(void)info;
	return value_text(env, libbpf_version_string());
}

void register_functions(napi_env env, napi_value exports, const struct function *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		napi_value function;

		napi_create_function(env, list[i].name, NAPI_AUTO_LENGTH, list[i].callback, NULL,
		                     &function);
		napi_set_named_property(env, exports, list[i].name, function);
	}
}

static const struct function functions[] = {
	{ "close", handle_close },
	{ "fd", handle_fd },
	{ "setErrorFactory", set_error_factory },
	{ "libbpfVersion", libbpf_version },
};

NAPI_MODULE_INIT()
{
	struct instance *instance = calloc(1, sizeof(*instance));

	if (!instance ||
	    napi_set_instance_data(env, instance, instance_finalize, NULL) != napi_ok) {
		free(instance);
		napi_throw_error(env, "EADDON", "Cannot create the addon's state");
		return exports;
	}
	libbpf_set_print(log_print);
	register_functions(env, exports, functions, ARRAY_LENGTH(functions));
	object_register(env, exports);
	attach_register(env, exports);
	map_register(env, exports);
	link_register(env, exports);
	ring_register(env, exports);
	system_register(env, exports);
	netlink_register(env, exports);
	return exports;
}
