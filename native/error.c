// SPDX-License-Identifier: Apache-2.0
// What goes wrong, as a BpfError: its words, libbpf's and the verifier's.
#include "sonde_bpf.h"

#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MAX (64 * 1024)

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

static void instance_finalize(napi_env env, void *data, void *hint)
{
	(void)env;
	(void)hint;
	free(data);
}

bool errors_begin(napi_env env)
{
	struct instance *instance = calloc(1, sizeof(*instance));

	if (!instance ||
	    napi_set_instance_data(env, instance, instance_finalize, NULL) != napi_ok) {
		free(instance);
		napi_throw_error(env, "EADDON", "Cannot create the addon's state");
		return false;
	}
	libbpf_set_print(log_print);
	return true;
}

void errors_made_by(napi_env env, napi_value make_error)
{
	struct instance *instance = NULL;

	napi_get_instance_data(env, (void **)&instance);
	if (!instance)
		return;
	if (instance->make_error)
		napi_delete_reference(env, instance->make_error);
	instance->make_error = NULL;
	napi_create_reference(env, make_error, 1, &instance->make_error);
}
