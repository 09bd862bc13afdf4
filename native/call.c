// SPDX-License-Identifier: Apache-2.0
// The arguments of a call. Every argument is checked here, so that no function below
// ever sees a length or a number that JavaScript did not really have.
#include "sonde_bpf.h"

#include <math.h>
#include <string.h>

static void refuse(struct call *call, size_t index, const char *expected)
{
	if (!call->failed)
		throw_code(call->env, "EARGUMENT", "Argument %zu must be %s", index, expected);
	call->failed = true;
}

struct call call_begin(napi_env env, napi_callback_info info, size_t expected)
{
	struct call call = { .env = env, .count = CALL_ARGUMENTS_MAX };

	log_begin();
	if (napi_get_cb_info(env, info, &call.count, call.argument, NULL, NULL) != napi_ok ||
	    call.count < expected) {
		throw_code(env, "EARGUMENT", "Expected %zu arguments, got %zu", expected,
		           call.count);
		call.failed = true;
	}
	return call;
}

struct bytes call_bytes(struct call *call, size_t index)
{
	struct bytes bytes = { 0 };
	napi_typedarray_type type;
	void *data = NULL;
	bool typed = false;

	if (call->failed)
		return bytes;
	napi_is_typedarray(call->env, call->argument[index], &typed);
	if (!typed ||
	    napi_get_typedarray_info(call->env, call->argument[index], &type, &bytes.length, &data,
	                             NULL, NULL) != napi_ok ||
	    type != napi_uint8_array) {
		refuse(call, index, "a Uint8Array");
		return (struct bytes){ 0 };
	}
	bytes.data = data;
	return bytes;
}

double call_number(struct call *call, size_t index, double min, double max)
{
	double number = 0;

	if (call->failed)
		return 0;
	if (napi_get_value_double(call->env, call->argument[index], &number) != napi_ok ||
	    !(number >= min && number <= max) || trunc(number) != number) {
		refuse(call, index, "an integer in range");
		return 0;
	}
	return number;
}

uint32_t call_u32(struct call *call, size_t index)
{
	return (uint32_t)call_number(call, index, 0, UINT32_MAX);
}

int call_i32(struct call *call, size_t index)
{
	return (int)call_number(call, index, INT32_MIN, INT32_MAX);
}

bool call_bool(struct call *call, size_t index)
{
	bool flag = false;

	if (!call->failed &&
	    napi_get_value_bool(call->env, call->argument[index], &flag) != napi_ok)
		refuse(call, index, "a boolean");
	return flag;
}

bool call_is_null(struct call *call, size_t index)
{
	napi_valuetype type = napi_undefined;

	if (!call->failed)
		napi_typeof(call->env, call->argument[index], &type);
	return type == napi_undefined || type == napi_null;
}

const char *call_text(struct call *call, size_t index, struct text *text)
{
	text->data[0] = '\0';
	text->length = 0;
	if (call->failed || call_is_null(call, index))
		return NULL;
	if (napi_get_value_string_utf8(call->env, call->argument[index], text->data, TEXT_MAX,
	                               &text->length) != napi_ok) {
		refuse(call, index, "a string");
		return NULL;
	}
	if (text->length >= TEXT_MAX - 1 || strlen(text->data) != text->length) {
		refuse(call, index, "a string under 4095 bytes without NUL");
		return NULL;
	}
	return text->data;
}
