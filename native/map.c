// SPDX-License-Identifier: Apache-2.0
// Maps by descriptor. Every buffer is held against the map's own sizes before the kernel writes
// into it.
#define _GNU_SOURCE
#include "sonde_bpf.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// What the kernel answers for an operation that a map type does not have: ENOTSUPP is not in
// errno.h.
#define KERNEL_ENOTSUPP 524
// MAX_BPF_STACK: no program can build a longer key.
#define KEY_MAX 512

static bool type_per_cpu(uint32_t type)
{
	return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

napi_value map_handle_new(napi_env env, int fd)
{
	struct bpf_map_info map_info = { 0 };
	uint32_t length = sizeof(map_info);
	struct map_handle *map;
	int cpus = libbpf_num_possible_cpus();

	if (strcmp(fd_kind(fd), "map") != 0) {
		close(fd);
		return throw_code(env, "EARGUMENT", "The descriptor is not a map");
	}
	if (cpus < 1 || bpf_obj_get_info_by_fd(fd, &map_info, &length)) {
		int error = errno;

		close(fd);
		return throw_errno(env, error, "Cannot read the map's description");
	}
	map = calloc(1, sizeof(*map));
	if (!map) {
		close(fd);
		return throw_errno(env, ENOMEM, "Cannot create a handle");
	}
	map->base = (struct handle){ .kind = HANDLE_MAP, .fd = fd };
	map->type = map_info.type;
	map->key_size = map_info.key_size;
	map->value_size = map_info.value_size;
	map->max_entries = map_info.max_entries;
	map->per_cpu = type_per_cpu(map_info.type);
	map->value_stride = map->value_size;
	if (map->per_cpu)
		map->value_stride = ((map->value_size + 7) & ~7U) * (uint32_t)cpus;
	return handle_new(env, &map->base);
}

// mapFromFd(fd): the handle has a duplicate, so that both sides close their own
static napi_value map_from_fd(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	int fd = call_i32(&call, 0);
	int own;

	if (call.failed)
		return NULL;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		return throw_errno(env, errno, "Cannot duplicate descriptor %d", fd);
	return map_handle_new(env, own);
}

// mapInfo(map) → {id, name, type, typeName, keySize, valueSize, valueStride, maxEntries, flags,
// perCpu}
static napi_value map_info(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 1);
	struct map_handle *map = call_handle(&call, 0, HANDLE_MAP);
	struct bpf_map_info details = { 0 };
	uint32_t length = sizeof(details);
	const char *type_name;
	napi_value item;

	if (!map)
		return NULL;
	if (bpf_obj_get_info_by_fd(map->base.fd, &details, &length))
		return throw_errno(env, errno, "Cannot read the map's description");
	type_name = libbpf_bpf_map_type_str(details.type);
	napi_create_object(env, &item);
	set_number(env, item, "id", details.id);
	set_text(env, item, "name", details.name);
	set_number(env, item, "type", details.type);
	set_text(env, item, "typeName", type_name ? type_name : "unknown");
	set_number(env, item, "keySize", map->key_size);
	set_number(env, item, "valueSize", map->value_size);
	set_number(env, item, "valueStride", map->value_stride);
	set_number(env, item, "maxEntries", map->max_entries);
	set_number(env, item, "flags", details.map_flags);
	set_bool(env, item, "perCpu", map->per_cpu);
	return item;
}

static bool size_is(struct call *call, const char *what, size_t length, uint32_t expected)
{
	if (call->failed)
		return false;
	if (length == expected)
		return true;
	throw_code(call->env, "ERANGE", "The %s has %zu bytes, the map's has %u", what, length,
	           expected);
	call->failed = true;
	return false;
}

// mapLookup(map, key, out, flags) → found
static napi_value map_lookup(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 4);
	struct map_handle *map = call_handle(&call, 0, HANDLE_MAP);
	struct bytes key = call_bytes(&call, 1);
	struct bytes out = call_bytes(&call, 2);
	uint32_t flags = call_u32(&call, 3);

	if (!map || !size_is(&call, "key", key.length, map->key_size) ||
	    !size_is(&call, "value", out.length, map->value_stride))
		return NULL;
	if (bpf_map_lookup_elem_flags(map->base.fd, key.data, out.data, flags) == 0)
		return value_bool(env, true);
	if (errno == ENOENT)
		return value_bool(env, false);
	return throw_errno(env, errno, "Cannot look up a key");
}

// mapUpdate(map, key, value, flags)
static napi_value map_update(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 4);
	struct map_handle *map = call_handle(&call, 0, HANDLE_MAP);
	struct bytes key = call_bytes(&call, 1);
	struct bytes value = call_bytes(&call, 2);
	uint32_t flags = call_u32(&call, 3);

	if (!map || !size_is(&call, "key", key.length, map->key_size) ||
	    !size_is(&call, "value", value.length, map->value_stride))
		return NULL;
	if (bpf_map_update_elem(map->base.fd, key.data, value.data, flags))
		return throw_errno(env, errno, "Cannot update a key");
	return NULL;
}

// mapDelete(map, key) → was there
static napi_value map_delete(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct map_handle *map = call_handle(&call, 0, HANDLE_MAP);
	struct bytes key = call_bytes(&call, 1);

	if (!map || !size_is(&call, "key", key.length, map->key_size))
		return NULL;
	if (bpf_map_delete_elem(map->base.fd, key.data) == 0)
		return value_bool(env, true);
	if (errno == ENOENT)
		return value_bool(env, false);
	return throw_errno(env, errno, "Cannot delete a key");
}

// mapTake(map, key, out) → found: look up and delete in one step (queues, stacks, hashes since
// 5.14)
static napi_value map_take(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	struct map_handle *map = call_handle(&call, 0, HANDLE_MAP);
	struct bytes key = call_bytes(&call, 1);
	struct bytes out = call_bytes(&call, 2);
	void *key_data;

	if (!map || !size_is(&call, "key", key.length, map->key_size) ||
	    !size_is(&call, "value", out.length, map->value_stride))
		return NULL;
	key_data = map->key_size ? key.data : NULL;
	if (bpf_map_lookup_and_delete_elem(map->base.fd, key_data, out.data) == 0)
		return value_bool(env, true);
	if (errno == ENOENT)
		return value_bool(env, false);
	return throw_errno(env, errno, "Cannot take a key");
}

// mapNextKey(map, key | null, out) → there is one
static napi_value map_next_key(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	struct map_handle *map = call_handle(&call, 0, HANDLE_MAP);
	bool first = call_is_null(&call, 1);
	struct bytes key = first ? (struct bytes){ 0 } : call_bytes(&call, 1);
	struct bytes out = call_bytes(&call, 2);

	if (!map || (!first && !size_is(&call, "key", key.length, map->key_size)) ||
	    !size_is(&call, "next key", out.length, map->key_size))
		return NULL;
	if (bpf_map_get_next_key(map->base.fd, first ? NULL : key.data, out.data) == 0)
		return value_bool(env, true);
	if (errno == ENOENT)
		return value_bool(env, false);
	return throw_errno(env, errno, "Cannot find the next key");
}

struct batch {
	struct map_handle *map;
	struct bytes keys;
	struct bytes values;
	uint32_t room;
	uint32_t done;
	bool drain;
};

// The kernel does not tell the end of an array whose last entry took the last room: ask for the
// next key.
static bool batch_complete(const struct batch *batch)
{
	uint32_t key_size = batch->map->key_size;
	uint8_t next[KEY_MAX];

	return batch->done > 0 && !batch->drain &&
	       bpf_map_get_next_key(batch->map->base.fd,
	                            batch->keys.data + (size_t)(batch->done - 1) * key_size,
	                            next) &&
	       errno == ENOENT;
}

// 0 at the end of the map, else an errno. What was taken before an error stands in `done` entries.
static int batch_run(struct batch *batch)
{
	uint8_t token_in[KEY_MAX], token_out[KEY_MAX];
	bool first = true;

	// The token of a hash is a u32, that of an array a key: one that is larger has no batch
	// operations.
	if (batch->map->key_size > sizeof(token_in))
		return EINVAL;
	while (true) {
		uint32_t count = batch->room - batch->done;
		void *keys = batch->keys.data + (size_t)batch->done * batch->map->key_size;
		void *values = batch->values.data + (size_t)batch->done * batch->map->value_stride;
		int result;

		if (count == 0)
			return batch_complete(batch) ? 0 : ENOSPC;
		if (batch->drain)
			result = bpf_map_lookup_and_delete_batch(batch->map->base.fd,
			                                         first ? NULL : token_in, token_out,
			                                         keys, values, &count, NULL);
		else
			result = bpf_map_lookup_batch(batch->map->base.fd, first ? NULL : token_in,
			                              token_out, keys, values, &count, NULL);
		if (result == 0 || errno == ENOENT) {
			batch->done += count;
			if (result)
				return 0;
		} else {
			return errno;
		}
		memcpy(token_in, token_out, sizeof(token_in));
		first = false;
	}
}

// The same for maps without batch operations. A key that vanishes under the walk is left out; the
// walk is bounded by the room, since a deleted key sends the kernel back to the start.
static int walk_run(struct batch *batch)
{
	struct map_handle *map = batch->map;
	uint8_t *previous = NULL;

	while (true) {
		uint8_t *key = batch->keys.data + (size_t)batch->done * map->key_size;
		uint8_t *value = batch->values.data + (size_t)batch->done * map->value_stride;
		uint8_t spare[KEY_MAX];

		if (map->key_size > sizeof(spare))
			return EINVAL;
		if (bpf_map_get_next_key(map->base.fd, batch->drain ? NULL : previous, spare))
			return errno == ENOENT ? 0 : errno;
		if (batch->done == batch->room)
			return ENOSPC;
		memcpy(key, spare, map->key_size);
		if (bpf_map_lookup_elem(map->base.fd, key, value)) {
			if (errno != ENOENT)
				return errno;
			if (!batch->drain)
				return EAGAIN;
			continue;
		}
		if (batch->drain && bpf_map_delete_elem(map->base.fd, key))
			return errno;
		previous = key;
		batch->done++;
	}
}

static bool unsupported(int error)
{
	return error == EINVAL || error == EOPNOTSUPP || error == KERNEL_ENOTSUPP;
}

// mapBatch(map, keys, values, drain, walk) → entries, or −1 − entries where the buffers were too
// small. `walk` asks for the slow way outright.
static napi_value map_batch(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 5);
	struct map_handle *map = call_handle(&call, 0, HANDLE_MAP);
	struct batch batch = { .map = map };
	bool walk;
	size_t room;
	int error = EINVAL;

	batch.keys = call_bytes(&call, 1);
	batch.values = call_bytes(&call, 2);
	batch.drain = call_bool(&call, 3);
	walk = call_bool(&call, 4);
	if (call.failed)
		return NULL;
	if (map->key_size == 0 || map->value_size == 0)
		return throw_code(env, "EUNSUPPORTED", "The map has no keys and values to walk");
	room = batch.keys.length / map->key_size;
	if (batch.values.length / map->value_stride < room)
		room = batch.values.length / map->value_stride;
	batch.room = room > INT32_MAX ? INT32_MAX : (uint32_t)room;
	if (!walk)
		error = batch_run(&batch);
	if (batch.done == 0 && unsupported(error))
		error = walk_run(&batch);
	// What was drained is no longer in the map: it goes to the caller whatever stopped the
	// drain.
	if (error == ENOSPC || (error && batch.drain && batch.done > 0))
		return value_number(env, -1.0 - batch.done);
	if (error)
		return throw_errno(env, error, "Cannot %s the map", batch.drain ? "drain" : "read");
	return value_number(env, batch.done);
}

static const struct function functions[] = {
	{ "mapFromFd", map_from_fd },   { "mapInfo", map_info },     { "mapLookup", map_lookup },
	{ "mapUpdate", map_update },    { "mapDelete", map_delete }, { "mapTake", map_take },
	{ "mapNextKey", map_next_key }, { "mapBatch", map_batch },
};

void map_register(napi_env env, napi_value exports)
{
	register_functions(env, exports, functions, ARRAY_LENGTH(functions));
}
