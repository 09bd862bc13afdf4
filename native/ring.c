// SPDX-License-Identifier: Apache-2.0
// A consumer of the BPF ring buffer that does not consume: it copies from a cursor of its own and
// moves the kernel's position only when told. Layout (kernel/bpf/ringbuf.c): one writable page with
// the consumer's position, one read-only page with the producer's, then the data, mapped twice so
// that no record is split.
#define _GNU_SOURCE
#include "sonde_bpf.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#define RECORD_HEADER 8
#define DOUBLE_EXACT 9007199254740991.0
// A multiple of every page size. Larger ones cost no less for each record, and count as our memory.
#define WINDOW_BYTES (256 * 1024)

struct ring {
	struct handle base;
	uint64_t *consumer;
	uint64_t *producer;
	size_t page_size;
	uint64_t size;
	// Everything before is known to lie on record boundaries and was handed out: commit stops
	// here.
	uint64_t read_end;
	int waker;
	int level;
	int edge;
};

// The part of the data that is mapped now, from position `start` on. The kernel puts all pages of a
// mapping into our page tables at once, and each counts as ours: so there is a window only while
// one reads, and never more than a window.
struct window {
	const struct ring *ring;
	const uint8_t *data;
	uint64_t start;
	uint64_t length;
	// How much the reader looks for from where it is.
	uint64_t reach;
	int error;
};

struct read_result {
	uint64_t cursor;
	uint32_t records;
	uint32_t discarded;
	size_t bytes;
	// The record at the cursor does not fit; 0 if that is not why the read ended.
	size_t needed;
};

static uint64_t position_load(const uint64_t *position)
{
	return __atomic_load_n(position, __ATOMIC_ACQUIRE);
}

static void ring_release(struct handle *handle)
{
	struct ring *ring = (struct ring *)handle;

	if (ring->consumer)
		munmap(ring->consumer, ring->page_size);
	if (ring->producer)
		munmap(ring->producer, ring->page_size);
	if (ring->waker >= 0)
		close(ring->waker);
	if (ring->level >= 0)
		close(ring->level);
	if (ring->edge >= 0)
		close(ring->edge);
	ring->consumer = NULL;
	ring->producer = NULL;
}

static int ring_map(struct ring *ring)
{
	void *mapping;

	mapping = mmap(NULL, ring->page_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->base.fd, 0);
	if (mapping == MAP_FAILED)
		return errno;
	ring->consumer = mapping;
	mapping = mmap(NULL, ring->page_size, PROT_READ, MAP_SHARED, ring->base.fd,
	               (off_t)ring->page_size);
	if (mapping == MAP_FAILED)
		return errno;
	ring->producer = mapping;
	ring->read_end = position_load(ring->consumer);
	return 0;
}

static int epoll_with(struct ring *ring, uint32_t flags)
{
	struct epoll_event event = { .events = EPOLLIN | flags, .data.u32 = 0 };
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return -1;
	if (epoll_ctl(fd, EPOLL_CTL_ADD, ring->base.fd, &event) == 0) {
		event = (struct epoll_event){ .events = EPOLLIN, .data.u32 = 1 };
		if (ring->waker < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, ring->waker, &event) == 0)
			return fd;
	}
	close(fd);
	return -1;
}

static int ring_size_of(int fd, uint32_t *size)
{
	struct bpf_map_info details = { 0 };
	uint32_t length = sizeof(details);

	if (strcmp(fd_kind(fd), "map") != 0)
		return EINVAL;
	if (bpf_obj_get_info_by_fd(fd, &details, &length))
		return errno;
	if (details.type != BPF_MAP_TYPE_RINGBUF)
		return EINVAL;
	*size = details.max_entries;
	return 0;
}

// ringOpen(fd, size, waker fd | -1): all descriptors are duplicated
static napi_value ring_open(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	int fd = call_i32(&call, 0);
	double size = call_number(&call, 1, 0, UINT32_MAX);
	int waker = call_i32(&call, 2);
	struct ring *ring;
	uint32_t found = 0;
	int error;

	if (call.failed)
		return NULL;
	error = ring_size_of(fd, &found);
	if (error)
		return throw_errno(env, error, "Descriptor %d is not a ring buffer", fd);
	if (found != (uint32_t)size)
		return throw_code(env, "ERANGE", "The ring has %u bytes, not %.0f", found, size);
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return throw_errno(env, ENOMEM, "Cannot open the ring");
	ring->base = (struct handle){ .kind = HANDLE_RING, .release = ring_release };
	ring->page_size = (size_t)sysconf(_SC_PAGESIZE);
	ring->size = found;
	ring->level = ring->edge = -1;
	ring->base.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	ring->waker = waker < 0 ? -1 : fcntl(waker, F_DUPFD_CLOEXEC, 3);
	error = ring->base.fd < 0 || (waker >= 0 && ring->waker < 0) ? errno : ring_map(ring);
	if (!error) {
		ring->level = epoll_with(ring, 0);
		ring->edge = epoll_with(ring, EPOLLET);
		error = ring->level < 0 || ring->edge < 0 ? errno : 0;
	}
	if (error) {
		ring_release(&ring->base);
		if (ring->base.fd >= 0)
			close(ring->base.fd);
		free(ring);
		return throw_errno(env, error, "Cannot open the ring");
	}
	return handle_new(env, &ring->base);
}

static uint64_t minimum(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void window_close(struct window *window)
{
	if (window->data)
		munmap((void *)window->data, window->length);
	window->data = NULL;
	window->length = 0;
}

static bool window_move(struct window *window, uint64_t position)
{
	const struct ring *ring = window->ring;
	uint64_t page = ring->page_size;
	uint64_t start = position & ~(page - 1);
	uint64_t wanted = (position - start + window->reach + page - 1) & ~(page - 1);
	// Beyond the end of the data the same pages follow once more, so a window never wraps.
	uint64_t offset = 2 * page + (start & (ring->size - 1));
	uint64_t length = minimum(wanted, minimum(ring->size, WINDOW_BYTES));
	void *mapping;

	window_close(window);
	mapping = mmap(NULL, length, PROT_READ, MAP_SHARED, ring->base.fd, (off_t)offset);
	if (mapping == MAP_FAILED) {
		window->error = errno;
		return false;
	}
	window->data = mapping;
	window->start = start;
	window->length = length;
	return true;
}

// What stands at a position, up to the end of the window; NULL with `error` set where it cannot be
// mapped. A pointer from before is void.
static const uint8_t *window_at(struct window *window, uint64_t position)
{
	if (position - window->start >= window->length && !window_move(window, position))
		return NULL;
	return window->data + (position - window->start);
}

// A record may lie over the border of windows, or be larger than one.
static bool window_copy(struct window *window, uint64_t position, uint8_t *to, uint64_t size)
{
	while (size > 0) {
		const uint8_t *from = window_at(window, position);
		uint64_t piece;

		if (!from)
			return false;
		piece = minimum(size, window->start + window->length - position);
		memcpy(to, from, piece);
		position += piece;
		to += piece;
		size -= piece;
	}
	return true;
}

static uint64_t padded(uint32_t length)
{
	return ((uint64_t)length + 7) & ~7ULL;
}

// The length of the record at `position`, or -1 where there is none that is finished, and where the
// window has an error.
static int64_t record_at(struct window *window, uint64_t position, uint64_t producer,
                         bool *discarded)
{
	const uint8_t *at;
	uint32_t header, length;

	// A header never lies over the end of a page; a position that is none must not read there.
	if (position % RECORD_HEADER != 0 || position + RECORD_HEADER > producer)
		return -1;
	at = window_at(window, position);
	if (!at)
		return -1;
	header = __atomic_load_n((const uint32_t *)at, __ATOMIC_ACQUIRE);
	if (header & BPF_RINGBUF_BUSY_BIT)
		return -1;
	length = header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
	if (position + RECORD_HEADER + padded(length) > producer)
		return -1;
	*discarded = (header & BPF_RINGBUF_DISCARD_BIT) != 0;
	return length;
}

// A cursor is good if walking the headers from the consumer's position meets it.
static bool cursor_valid(struct window *window, uint64_t cursor)
{
	const struct ring *ring = window->ring;
	uint64_t producer = position_load(ring->producer);
	uint64_t position = position_load(ring->consumer);
	bool discarded;

	if (cursor < position || cursor > producer)
		return false;
	if (cursor == ring->read_end)
		return true;
	while (position < cursor) {
		int64_t length;

		window->reach = cursor - position;
		length = record_at(window, position, producer, &discarded);
		if (length < 0)
			return false;
		position += RECORD_HEADER + padded((uint32_t)length);
	}
	return position == cursor;
}

static struct read_result ring_copy(struct window *window, uint64_t cursor, struct bytes into)
{
	struct read_result result = { .cursor = cursor };
	uint64_t producer = position_load(window->ring->producer);

	while (true) {
		bool discarded = false;
		uint8_t *to = into.data + result.bytes;
		uint64_t room = into.length - result.bytes;
		int64_t length;
		uint64_t size;
		uint32_t header[2];

		window->reach = minimum(producer - result.cursor, RECORD_HEADER + room);
		length = record_at(window, result.cursor, producer, &discarded);
		if (length < 0)
			return result;
		size = padded((uint32_t)length);
		if (discarded) {
			result.discarded++;
			result.cursor += RECORD_HEADER + size;
			continue;
		}
		if (room < RECORD_HEADER + size) {
			result.needed = RECORD_HEADER + size;
			return result;
		}
		header[0] = (uint32_t)length;
		header[1] = 0;
		memcpy(to, header, sizeof(header));
		if (!window_copy(window, result.cursor + RECORD_HEADER, to + RECORD_HEADER, size))
			return result;
		result.bytes += RECORD_HEADER + size;
		result.cursor += RECORD_HEADER + size;
		result.records++;
	}
}

static napi_value throw_cursor(napi_env env, const struct window *window, uint64_t cursor)
{
	if (window->error)
		return throw_errno(env, window->error, "Cannot map the ring");
	return throw_code(env, "ECURSOR", "Position %llu is not the start of a record in the ring",
	                  (unsigned long long)cursor);
}

// ringRead(ring, cursor, into) → {bytes, records, discarded, cursor}
static napi_value ring_read(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	struct ring *ring = call_handle(&call, 0, HANDLE_RING);
	uint64_t cursor = (uint64_t)call_number(&call, 1, 0, DOUBLE_EXACT);
	struct bytes into = call_bytes(&call, 2);
	struct window window = { .ring = ring };
	struct read_result result;
	napi_value item;
	bool valid;

	if (call.failed)
		return NULL;
	valid = cursor_valid(&window, cursor);
	if (valid)
		result = ring_copy(&window, cursor, into);
	window_close(&window);
	if (!valid || window.error)
		return throw_cursor(env, &window, cursor);
	if (result.cursor > ring->read_end)
		ring->read_end = result.cursor;
	if (result.needed && result.records == 0)
		return throw_code(env, "ENOSPC",
		                  "The next record takes %zu bytes, the buffer has %zu",
		                  result.needed, into.length);
	napi_create_object(env, &item);
	set_number(env, item, "bytes", (double)result.bytes);
	set_number(env, item, "records", result.records);
	set_number(env, item, "discarded", result.discarded);
	set_number(env, item, "cursor", (double)result.cursor);
	return item;
}

// ringCommit(ring, cursor): the kernel may overwrite what lies before
static napi_value ring_commit(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct ring *ring = call_handle(&call, 0, HANDLE_RING);
	uint64_t cursor = (uint64_t)call_number(&call, 1, 0, DOUBLE_EXACT);
	struct window window = { .ring = ring };
	uint64_t consumer;
	bool valid;

	if (call.failed)
		return NULL;
	consumer = position_load(ring->consumer);
	if (cursor < consumer || cursor > ring->read_end)
		return throw_code(env, "ECURSOR",
		                  "Position %llu is outside of what was read (%llu to %llu)",
		                  (unsigned long long)cursor, (unsigned long long)consumer,
		                  (unsigned long long)ring->read_end);
	valid = cursor_valid(&window, cursor);
	window_close(&window);
	if (!valid)
		return throw_cursor(env, &window, cursor);
	__atomic_store_n(ring->consumer, cursor, __ATOMIC_RELEASE);
	return NULL;
}

// ringPosition(ring, ofProducer) → bytes since the ring was made
static napi_value ring_position(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 2);
	struct ring *ring = call_handle(&call, 0, HANDLE_RING);
	bool producer = call_bool(&call, 1);

	if (call.failed)
		return NULL;
	return value_number(env, (double)position_load(producer ? ring->producer : ring->consumer));
}

static void waker_clear(int fd)
{
	uint64_t count;

	// The descriptor does not block: EAGAIN means that another reader was first.
	if (read(fd, &count, sizeof(count)) < 0)
		return;
}

// ringWait(ring, timeout ms, forWakeup) → 0 time is up, 1 data or wake-up, 2 waker.
static napi_value ring_wait(napi_env env, napi_callback_info info)
{
	struct call call = call_begin(env, info, 3);
	struct ring *ring = call_handle(&call, 0, HANDLE_RING);
	int timeout = call_i32(&call, 1);
	bool for_wakeup = call_bool(&call, 2);
	struct epoll_event events[2];
	int count, result = 0;

	if (call.failed)
		return NULL;
	if (!for_wakeup) {
		uint64_t producer = position_load(ring->producer);

		if (producer > ring->read_end)
			return value_number(env, 1);
		// What was read and not committed keeps the level up: only a new wake-up counts
		// then.
		for_wakeup = position_load(ring->consumer) != producer;
	}
	count = epoll_wait(for_wakeup ? ring->edge : ring->level, events, 2, timeout);
	if (count < 0 && errno != EINTR)
		return throw_errno(env, errno, "Cannot wait for the ring");
	for (int i = 0; i < count; i++) {
		if (events[i].data.u32 == 1) {
			waker_clear(ring->waker);
			result = 2;
		} else if (result == 0) {
			result = 1;
		}
	}
	return value_number(env, result);
}

static const struct function functions[] = {
	{ "ringOpen", ring_open },         { "ringRead", ring_read }, { "ringCommit", ring_commit },
	{ "ringPosition", ring_position }, { "ringWait", ring_wait },
};

void ring_register(napi_env env, napi_value exports)
{
	register_functions(env, exports, functions, ARRAY_LENGTH(functions));
}
