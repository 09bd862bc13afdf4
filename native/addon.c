// SPDX-License-Identifier: Apache-2.0
// The module itself: what each file gives JavaScript.
#include "sonde_bpf.h"

#include <bpf/libbpf.h>

static napi_value set_error_factory(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	napi_valuetype type = napi_undefined;

	if (call.failed)
		return NULL;
	napi_typeof(env, call.argument[0], &type);
	if (type != napi_function)
		return throw_code(env, "EARGUMENT", "Argument 0 must be a function");
	errors_made_by(env, call.argument[0]);
	return NULL;
}

static napi_value libbpf_version(napi_env env, napi_callback_info info)
{
	(void)info;
	return value_text(env, libbpf_version_string());
}

static const struct function functions[] = {
	{ "setErrorFactory", set_error_factory },
	{ "libbpfVersion", libbpf_version },
};

NAPI_MODULE_INIT()
{
	if (!errors_begin(env))
		return exports;
	register_functions(env, exports, functions, ARRAY_LENGTH(functions));
	handle_register(env, exports);
	object_register(env, exports);
	attach_register(env, exports);
	map_register(env, exports);
	link_register(env, exports);
	ring_register(env, exports);
	system_register(env, exports);
	netlink_register(env, exports);
	return exports;
}
