// SPDX-License-Identifier: Apache-2.0
// What the files of the addon share: handles, call arguments, errors. The addon knows bpf(2) and
// libbpf, and nothing of the programs that it loads. src/bpf/native.ts is the other half: it types
// these functions.
#ifndef SONDE_BPF_H
#define SONDE_BPF_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpf_link;
struct bpf_map;
struct bpf_object;
struct bpf_program;

enum handle_kind {
	HANDLE_OBJECT = 1,
	HANDLE_MAP,
	HANDLE_PROGRAM,
	HANDLE_LINK,
	HANDLE_RING,
	HANDLE_FD,
};

// A native resource owned by one JavaScript object. `release` runs once: at close, at garbage
// collection or at the end of the environment. The memory itself lives until the JavaScript object
// is gone, so a use after close finds `open == false` and not a stale pointer.
struct handle {
	enum handle_kind kind;
	bool open;
	int fd;
	void (*release)(struct handle *handle);
};

struct object_handle {
	struct handle base;
	struct bpf_object *object;
	bool loaded;
	uint32_t map_count;
	uint32_t program_count;
	struct bpf_map **maps;
	struct bpf_program **programs;
};

// `value_stride` is what one value takes in a buffer: for per-CPU maps 8-aligned, times possible
// CPUs.
struct map_handle {
	struct handle base;
	uint32_t type;
	uint32_t key_size;
	uint32_t value_size;
	uint32_t max_entries;
	uint32_t value_stride;
	bool per_cpu;
};

// `link` is NULL for a link that was opened from a pin.
struct link_handle {
	struct handle base;
	struct bpf_link *link;
	bool pinned;
};

// One call from JavaScript. The first argument that is not what it must be throws and sets
// `failed`; readers after that return zeroes, so a function reads all its arguments and asks
// `failed` once.
#define CALL_ARGUMENTS_MAX 9
struct call {
	napi_env env;
	napi_value argument[CALL_ARGUMENTS_MAX];
	size_t count;
	bool failed;
};

struct bytes {
	uint8_t *data;
	size_t length;
};

#define TEXT_MAX 4096
struct text {
	char data[TEXT_MAX];
	size_t length;
};

struct call call_begin(napi_env env, napi_callback_info info, size_t expected);
void *call_handle(struct call *call, size_t index, enum handle_kind kind);
struct bytes call_bytes(struct call *call, size_t index);
double call_number(struct call *call, size_t index, double min, double max);
uint32_t call_u32(struct call *call, size_t index);
int call_i32(struct call *call, size_t index);
bool call_bool(struct call *call, size_t index);
bool call_is_null(struct call *call, size_t index);
// Fills `text` and returns its data, or NULL where the argument is null or undefined.
const char *call_text(struct call *call, size_t index, struct text *text);

napi_value value_number(napi_env env, double number);
napi_value value_bool(napi_env env, bool flag);
napi_value value_text(napi_env env, const char *text);
void set_number(napi_env env, napi_value target, const char *name, double number);
void set_bool(napi_env env, napi_value target, const char *name, bool flag);
void set_text(napi_env env, napi_value target, const char *name, const char *text);

// Once for each environment, before anything else; false: it has thrown.
bool errors_begin(napi_env env);
// `make_error` is makeError() of src/bpf/error.ts: what is thrown from now on is what it returns.
void errors_made_by(napi_env env, napi_value make_error);

// Both throw a BpfError and return NULL. `error` is a positive errno; 0 with a code of our own.
napi_value throw_errno(napi_env env, int error, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
napi_value throw_code(napi_env env, const char *code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
// With the libbpf text captured since log_begin() and, where there is one, the verifier's log of
// `program`.
napi_value throw_with_log(napi_env env, int error, const char *message, const char *program,
                          const char *verifier_log);

// libbpf prints through one callback for the whole process, in the thread of the caller: the text
// of a call is collected per thread between log_begin() and the next log_begin().
void log_begin(void);

// A signal that comes while the verifier works on a program makes the kernel refuse it with EAGAIN,
// and libbpf gives up after five of them (a CPU profiler's timer brings more). So the thread's
// signals wait between the two calls.
void signals_hold(sigset_t *before);
void signals_release(const sigset_t *before);

// Takes ownership of `handle` (allocated with calloc) whatever happens.
napi_value handle_new(napi_env env, struct handle *handle);
napi_value fd_handle_new(napi_env env, enum handle_kind kind, int fd);
// A handle for a map's own descriptor, or throws and closes it.
napi_value map_handle_new(napi_env env, int fd);
napi_value link_handle_new(napi_env env, struct bpf_link *link, int fd);
// "map", "prog", "link" or "other": the kernel's name of the anonymous inode.
const char *fd_kind(int fd);

struct function {
	const char *name;
	napi_callback callback;
};
void register_functions(napi_env env, napi_value exports, const struct function *list,
                        size_t count);

void handle_register(napi_env env, napi_value exports);
void object_register(napi_env env, napi_value exports);
void attach_register(napi_env env, napi_value exports);
void map_register(napi_env env, napi_value exports);
void link_register(napi_env env, napi_value exports);
void ring_register(napi_env env, napi_value exports);
void system_register(napi_env env, napi_value exports);
void netlink_register(napi_env env, napi_value exports);

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#endif
