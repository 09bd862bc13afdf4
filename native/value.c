// SPDX-License-Identifier: Apache-2.0
// Values for JavaScript: results, their properties, and functions.
#include "sonde_bpf.h"

napi_value value_number(napi_env env, double number)
{
	napi_value value = NULL;

	napi_create_double(env, number, &value);
	return value;
}

napi_value value_bool(napi_env env, bool flag)
{
	napi_value value = NULL;

	napi_get_boolean(env, flag, &value);
	return value;
}

napi_value value_text(napi_env env, const char *text)
{
	napi_value value = NULL;

	napi_create_string_utf8(env, text ? text : "", NAPI_AUTO_LENGTH, &value);
	return value;
}

void set_number(napi_env env, napi_value target, const char *name, double number)
{
	napi_set_named_property(env, target, name, value_number(env, number));
}

void set_bool(napi_env env, napi_value target, const char *name, bool flag)
{
	napi_set_named_property(env, target, name, value_bool(env, flag));
}

void set_text(napi_env env, napi_value target, const char *name, const char *text)
{
	napi_set_named_property(env, target, name, value_text(env, text));
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
