// SPDX-License-Identifier: Apache-2.0
// Objects: open from memory, settings before load, load with each program's own verifier log.
// Maps and programs are named by their index in the object's order, which objectMaps and
// objectPrograms give.
#define _GNU_SOURCE
#include "sonde_bpf.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// Reserved, not touched: a page is used only by a program that fails.
// Before 6.4 a log that does not fit hides the error: as large as the oldest kernels take.
#define VERIFIER_LOG_SIZE (16u * 1024 * 1024 - 4096)

static void object_release(struct handle *handle)
{
	struct object_handle *object = (struct object_handle *)handle;

	bpf_object__close(object->object);
	free(object->maps);
	free(object->programs);
	object->object = NULL;
	object->maps = NULL;
	object->programs = NULL;
}

static bool object_index(struct object_handle *object)
{
	struct bpf_program *program;
	struct bpf_map *map;

	bpf_object__for_each_map(map, object->object) object->map_count++;
	bpf_object__for_each_program(program, object->object) object->program_count++;
	object->maps = calloc(object->map_count + 1, sizeof(*object->maps));
	object->programs = calloc(object->program_count + 1, sizeof(*object->programs));
	if (!object->maps || !object->programs)
		return false;
	object->map_count = 0;
	object->program_count = 0;
	bpf_object__for_each_map(map, object->object) object->maps[object->map_count++] = map;
	bpf_object__for_each_program(program, object->object)
	        object->programs[object->program_count++] = program;
	return true;
}

// objectOpen(bytes, name | null, pinRoot | null, btfPath | null) → handle
static napi_value object_open(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 4);
	struct bytes bytes = call_bytes(&call, 0);
	struct text name, pin_root, btf_path;
	LIBBPF_OPTS(bpf_object_open_opts, options);
	struct object_handle *object;

	options.object_name = call_text(&call, 1, &name);
	options.pin_root_path = call_text(&call, 2, &pin_root);
	options.btf_custom_path = call_text(&call, 3, &btf_path);
	if (call.failed)
		return NULL;
	object = calloc(1, sizeof(*object));
	if (!object)
		return throw_errno(env, ENOMEM, "Cannot open the object");
	object->base =
	        (struct handle){ .kind = HANDLE_OBJECT, .fd = -1, .release = object_release };
	// libbpf reads the bytes during this call only.
	object->object = bpf_object__open_mem(bytes.data, bytes.length, &options);
	if (!object->object || !object_index(object)) {
		int error = errno;

		object_release(&object->base);
		free(object);
		return throw_with_log(env, error, "Cannot open the object", NULL, NULL);
	}
	return handle_new(env, &object->base);
}

// objectMaps(object) → [{name, type, typeName, keySize, valueSize, maxEntries, flags, internal}]
static napi_value object_maps(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct object_handle *object = call_handle(&call, 0, HANDLE_OBJECT);
	napi_value list;

	if (!object)
		return NULL;
	napi_create_array_with_length(env, object->map_count, &list);
	for (uint32_t i = 0; i < object->map_count; i++) {
		struct bpf_map *map = object->maps[i];
		const char *type_name = libbpf_bpf_map_type_str(bpf_map__type(map));
		napi_value item;

		napi_create_object(env, &item);
		set_text(env, item, "name", bpf_map__name(map));
		set_number(env, item, "type", bpf_map__type(map));
		set_text(env, item, "typeName", type_name ? type_name : "unknown");
		set_number(env, item, "keySize", bpf_map__key_size(map));
		set_number(env, item, "valueSize", bpf_map__value_size(map));
		set_number(env, item, "maxEntries", bpf_map__max_entries(map));
		set_number(env, item, "flags", bpf_map__map_flags(map));
		set_bool(env, item, "internal", bpf_map__is_internal(map));
		napi_set_element(env, list, i, item);
	}
	return list;
}

// objectPrograms(object) → [{name, section, type, typeName, autoload}]
static napi_value object_programs(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct object_handle *object = call_handle(&call, 0, HANDLE_OBJECT);
	napi_value list;

	if (!object)
		return NULL;
	napi_create_array_with_length(env, object->program_count, &list);
	for (uint32_t i = 0; i < object->program_count; i++) {
		struct bpf_program *program = object->programs[i];
		const char *type_name = libbpf_bpf_prog_type_str(bpf_program__type(program));
		napi_value item;

		napi_create_object(env, &item);
		set_text(env, item, "name", bpf_program__name(program));
		set_text(env, item, "section", bpf_program__section_name(program));
		set_number(env, item, "type", bpf_program__type(program));
		set_text(env, item, "typeName", type_name ? type_name : "unknown");
		set_bool(env, item, "autoload", bpf_program__autoload(program));
		napi_set_element(env, list, i, item);
	}
	return list;
}

static struct bpf_map *call_map(struct call *call, struct object_handle **object)
{
	uint32_t index;

	*object = call_handle(call, 0, HANDLE_OBJECT);
	index = call_u32(call, 1);
	if (call->failed)
		return NULL;
	if (index >= (*object)->map_count) {
		throw_code(call->env, "EARGUMENT", "The object has no map %u", index);
		call->failed = true;
		return NULL;
	}
	return (*object)->maps[index];
}

static struct bpf_program *call_program(struct call *call, struct object_handle **object)
{
	uint32_t index;

	*object = call_handle(call, 0, HANDLE_OBJECT);
	index = call_u32(call, 1);
	if (call->failed)
		return NULL;
	if (index >= (*object)->program_count) {
		throw_code(call->env, "EARGUMENT", "The object has no program %u", index);
		call->failed = true;
		return NULL;
	}
	return (*object)->programs[index];
}

// objectSetMap(object, map, 'maxEntries' | 'flags' | 'valueSize' | 'autocreate', number)
static napi_value object_set_map(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 4);
	struct object_handle *object;
	struct bpf_map *map = call_map(&call, &object);
	struct text text;
	const char *what = call_text(&call, 2, &text);
	uint32_t value = call_u32(&call, 3);
	int error = -EINVAL;

	if (call.failed || !what)
		return NULL;
	if (strcmp(what, "maxEntries") == 0)
		error = bpf_map__set_max_entries(map, value);
	else if (strcmp(what, "flags") == 0)
		error = bpf_map__set_map_flags(map, value);
	else if (strcmp(what, "valueSize") == 0)
		error = bpf_map__set_value_size(map, value);
	else if (strcmp(what, "autocreate") == 0)
		error = bpf_map__set_autocreate(map, value != 0);
	if (error)
		return throw_errno(env, -error, "Cannot set %s of map '%s'", what,
		                   bpf_map__name(map));
	return NULL;
}

// objectReuseMap(object, map, fd): the map of this descriptor stands in for the declared one.
static napi_value object_reuse_map(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	struct object_handle *object;
	struct bpf_map *map = call_map(&call, &object);
	int fd = call_i32(&call, 2);
	int error;

	if (call.failed)
		return NULL;
	if (object->loaded)
		return throw_code(env, "ESTATE", "The object is already loaded");
	error = bpf_map__reuse_fd(map, fd);
	if (error)
		return throw_errno(env, -error, "Cannot reuse descriptor %d for map '%s'", fd,
		                   bpf_map__name(map));
	return NULL;
}

// objectPinPath(object, map, path | null): libbpf pins there at load, or reuses what is there.
static napi_value object_pin_path(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	struct object_handle *object;
	struct bpf_map *map = call_map(&call, &object);
	struct text text;
	const char *path = call_text(&call, 2, &text);
	int error;

	if (call.failed)
		return NULL;
	error = bpf_map__set_pin_path(map, path);
	if (error)
		return throw_errno(env, -error, "Cannot set the pin path of map '%s'",
		                   bpf_map__name(map));
	return NULL;
}

// objectSetInitial(object, map, offset, bytes): part of the first value of .rodata, .data or .bss.
static napi_value object_set_initial(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 4);
	struct object_handle *object;
	struct bpf_map *map = call_map(&call, &object);
	uint32_t offset = call_u32(&call, 2);
	struct bytes bytes = call_bytes(&call, 3);
	size_t size = 0;
	uint8_t *value;

	if (call.failed)
		return NULL;
	if (object->loaded)
		return throw_code(env, "ESTATE", "The object is already loaded");
	value = (uint8_t *)bpf_map__initial_value(map, &size);
	if (!value)
		return throw_code(env, "EARGUMENT", "Map '%s' has no initial value",
		                  bpf_map__name(map));
	if (offset > size || bytes.length > size - offset)
		return throw_code(env, "ERANGE",
		                  "Map '%s' has %zu bytes, offset %u and %zu bytes do not fit",
		                  bpf_map__name(map), size, offset, bytes.length);
	memcpy(value + offset, bytes.data, bytes.length);
	return NULL;
}

// objectSetAutoload(object, program, flag)
static napi_value object_set_autoload(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	struct object_handle *object;
	struct bpf_program *program = call_program(&call, &object);
	bool flag = call_bool(&call, 2);
	int error;

	if (call.failed)
		return NULL;
	error = bpf_program__set_autoload(program, flag);
	if (error)
		return throw_errno(env, -error, "Cannot set autoload of program '%s'",
		                   bpf_program__name(program));
	return NULL;
}

// libbpf loads in order and stops at the first failure: the last program with a log is the one
// refused.
static napi_value throw_load(napi_env env, struct object_handle *object, int error,
                             const char *logs)
{
	const char *program = NULL, *log = NULL;

	for (uint32_t i = 0; logs && i < object->program_count; i++) {
		const char *own = logs + (size_t)i * VERIFIER_LOG_SIZE;

		if (own[0] == '\0')
			continue;
		log = own;
		program = bpf_program__name(object->programs[i]);
	}
	return throw_with_log(env, error, "Cannot load the object", program, log);
}

// objectLoad(object)
static napi_value object_load(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct object_handle *object = call_handle(&call, 0, HANDLE_OBJECT);
	sigset_t signals;
	size_t size;
	char *logs;
	int error;

	if (!object)
		return NULL;
	if (object->loaded)
		return throw_code(env, "ESTATE", "The object is already loaded");
	size = ((size_t)object->program_count + 1) * VERIFIER_LOG_SIZE;
	logs = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	            -1, 0);
	if (logs == MAP_FAILED)
		logs = NULL;
	for (uint32_t i = 0; logs && i < object->program_count; i++)
		bpf_program__set_log_buf(object->programs[i], logs + (size_t)i * VERIFIER_LOG_SIZE,
		                         VERIFIER_LOG_SIZE);
	signals_hold(&signals);
	error = bpf_object__load(object->object);
	signals_release(&signals);
	object->loaded = true;
	if (error)
		throw_load(env, object, -error, logs);
	if (logs)
		munmap(logs, size);
	return NULL;
}

// objectMap(object, map) → map handle over a descriptor of its own, or null if it was not created
static napi_value object_map(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct object_handle *object;
	struct bpf_map *map = call_map(&call, &object);
	int fd;

	// Newer versions of libbpf (1.5 does, 1.1 does not) hold the place of a map that was not created
	// with a descriptor of something else.
	if (call.failed || strcmp(fd_kind(bpf_map__fd(map)), "map") != 0)
		return NULL;
	fd = fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return throw_errno(env, errno, "Cannot duplicate the descriptor of map '%s'",
		                   bpf_map__name(map));
	return map_handle_new(env, fd);
}

// objectProgram(object, program) → program handle over a descriptor of its own, or null if it was
// not loaded
static napi_value object_program(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct object_handle *object;
	struct bpf_program *program = call_program(&call, &object);
	int fd;

	if (call.failed || bpf_program__fd(program) < 0)
		return NULL;
	fd = fcntl(bpf_program__fd(program), F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return throw_errno(env, errno, "Cannot duplicate the descriptor of program '%s'",
		                   bpf_program__name(program));
	return fd_handle_new(env, HANDLE_PROGRAM, fd);
}

static const struct function functions[] = {
	{ "objectOpen", object_open },
	{ "objectMaps", object_maps },
	{ "objectPrograms", object_programs },
	{ "objectSetMap", object_set_map },
	{ "objectReuseMap", object_reuse_map },
	{ "objectPinPath", object_pin_path },
	{ "objectSetInitial", object_set_initial },
	{ "objectSetAutoload", object_set_autoload },
	{ "objectLoad", object_load },
	{ "objectMap", object_map },
	{ "objectProgram", object_program },
};

void object_register(napi_env env, napi_value exports)
{
	register_functions(env, exports, functions, ARRAY_LENGTH(functions));
}
