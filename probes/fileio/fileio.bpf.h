/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Reads and writes by process and kind of file, where the call returns: the first arguments are still in the registers then, and
 * the file is found by its descriptor. No file's name or content is looked at. Decoder: probes/fileio/fileio.ts.
 */
#ifndef SONDE_FILEIO_H
#define SONDE_FILEIO_H

#include "front.bpf.h"
#include "histogram.bpf.h"
#include "identity.bpf.h"
#include "syscall.bpf.h"
#include "turns.bpf.h"

#define ANON_INODE_FS_MAGIC 0x09041934
#define EBADF 9
#define FILE_TYPE_MASK 0170000

/* Set from configuration: collector.fileio.latency. */
const volatile bool fileio_timed = false;

enum file_kind {
	FILE_NONE, /* no such descriptor */
	FILE_REGULAR,
	FILE_PIPE,
	FILE_SOCKET,
	FILE_TTY,
	FILE_CHAR,
	FILE_BLOCK,
	FILE_ANON, /* eventfd, timerfd, signalfd, inotify … */
	FILE_OTHER,
};

enum file_operation {
	FILE_READ,
	FILE_WRITE,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block___fileio {
	unsigned long s_magic;
};

struct inode___fileio {
	u16 i_mode;
	u32 i_rdev;
	struct super_block___fileio *i_sb;
};

struct file___fileio {
	struct inode___fileio *f_inode;
};

struct fdtable___fileio {
	unsigned int max_fds;
	struct file___fileio **fd;
};

struct files_struct___fileio {
	struct fdtable___fileio *fdt;
};

struct task_struct___fileio {
	struct files_struct___fileio *files;
};

#pragma clang attribute pop

struct file_key {
	u32 tgid; /* 0: of processes that found the map full */
	u16 kind; /* enum file_kind */
	u16 operation; /* enum file_operation */
};

struct file_sums {
	struct owner owner;
	u64 calls;
	u64 errors;
	u64 bytes;
	struct histogram latency; /* ns, if asked for */
};

DEFINE_TURNS(file_io, struct file_key, struct file_sums, 2048)
DEFINE_FRONT(file_io, struct file_key, struct file_sums, calls, 3, 6)
DEFINE_TURNS(file_rest, struct file_key, struct file_sums, 32) /* more than kinds x operations */

const struct file_sums no_file_sums = {};

/* Of which argument a call reads and writes; NO_ARGUMENT: of none. */
#define NO_ARGUMENT 3

struct file_call {
	u8 reads;
	u8 writes;
};

#if defined(__TARGET_ARCH_x86)
/* read, pread64, readv, preadv, preadv2; write, pwrite64, writev, pwritev, pwritev2 */
#define IS_READ(nr) (nr == 0 || nr == 17 || nr == 19 || nr == 295 || nr == 327)
#define IS_WRITE(nr) (nr == 1 || nr == 18 || nr == 20 || nr == 296 || nr == 328)
#define IS_SENDFILE(nr) (nr == 40)
#define IS_SPLICE(nr) (nr == 275 || nr == 326) /* splice, copy_file_range */
#else /* the numbers of asm-generic */
#define IS_READ(nr) (nr == 63 || nr == 65 || nr == 67 || nr == 69 || nr == 286)
#define IS_WRITE(nr) (nr == 64 || nr == 66 || nr == 68 || nr == 70 || nr == 287)
#define IS_SENDFILE(nr) (nr == 71)
#define IS_SPLICE(nr) (nr == 76 || nr == 285)
#endif

/* `nr` of a 64-bit program. False: not a call of this probe. */
static __always_inline bool file_call_of(u32 nr, struct file_call *call)
{
	call->reads = NO_ARGUMENT;
	call->writes = NO_ARGUMENT;
	if (IS_READ(nr)) {
		call->reads = 0;
	} else if (IS_WRITE(nr)) {
		call->writes = 0;
	} else if (IS_SENDFILE(nr)) { /* out, in */
		call->writes = 0;
		call->reads = 1;
	} else if (IS_SPLICE(nr)) { /* in, offset, out */
		call->reads = 0;
		call->writes = 2;
	} else {
		return false;
	}
	return true;
}

static __always_inline bool is_tty(u32 device)
{
	u32 major = device >> 20;

	return major == 4 || major == 5 || (major >= 136 && major <= 143);
}

#define DEFINE_FILE_KIND(way, READ) \
static __always_inline u16 file_kind_##way(struct file___fileio *file) \
{ \
	struct inode___fileio *inode = READ(file, f_inode); \
	u16 mode = READ(inode, i_mode) & FILE_TYPE_MASK; \
	struct super_block___fileio *super; \
\
	switch (mode) { \
	case 0010000: \
		return FILE_PIPE; \
	case 0140000: \
		return FILE_SOCKET; \
	case 0020000: \
		return is_tty(READ(inode, i_rdev)) ? FILE_TTY : FILE_CHAR; \
	case 0060000: \
		return FILE_BLOCK; \
	case 0: /* how anonymous inodes are marked depends on the kernel */ \
	case 0100000: \
		super = READ(inode, i_sb); \
		if (READ(super, s_magic) == ANON_INODE_FS_MAGIC) \
			return FILE_ANON; \
		return mode ? FILE_REGULAR : FILE_OTHER; \
	} \
	return FILE_OTHER; \
}

DEFINE_FILE_KIND(direct, READ_DIRECT)
DEFINE_FILE_KIND(probe, READ_PROBE)

/*
 * Where in the table of a process its descriptor stands, 0: it has none. In two ways: plain loads where the verifier knows
 * the task, since each other read is a call of some 15 ns.
 */
#define DEFINE_FILE_AT(way, READ) \
static __always_inline u64 file_at_##way(struct task_struct *current, u32 fd) \
{ \
	struct task_struct___fileio *task = (void *)current; \
	struct files_struct___fileio *open = READ(task, files); \
	struct fdtable___fileio *table = READ(open, fdt); \
\
	return fd < READ(table, max_fds) ? (u64)(READ(table, fd) + fd) : 0; \
}

DEFINE_FILE_AT(direct, READ_DIRECT)
DEFINE_FILE_AT(probe, READ_PROBE)

/* Since 6.2: tells the verifier what an address is of, so that what is there is loaded, not copied by a helper. */
extern void *bpf_rdonly_cast(const void *address, u32 type) __weak __ksym;

#define HOLDER bpf_core_type_id_kernel(struct mm_struct)

/* Types of the kernel tell whether it has that. */
struct bpf_iter_num___since_6_4 {
} __attribute__((preserve_access_index));

static __always_inline u16 kind_of_descriptor(struct caller *caller, u32 fd)
{
	struct file___fileio *file = NULL;
	u64 at = current_is_known() ? file_at_direct(caller->task, fd) :
				      file_at_probe(caller->task, fd);

	if (!at)
		return FILE_NONE;
	if (bpf_core_type_exists(struct bpf_iter_num___since_6_4)) {
		/* some struct that has a pointer to a file: what is at `at` is taken for that member */
		u64 begin = at - bpf_core_field_offset(struct mm_struct, exe_file);
		struct mm_struct *holder = bpf_rdonly_cast((void *)begin, HOLDER);

		file = (void *)holder->exe_file;
		return file ? file_kind_direct(file) : FILE_NONE;
	}
	bpf_probe_read_kernel(&file, sizeof(file), (void *)at);
	return file ? file_kind_probe(file) : FILE_NONE;
}

/* The entry of `key`, or that of all who found the map full, which is then the key. */
static __always_inline struct file_sums *file_sums_of(bool turn, struct file_key *key)
{
	struct file_sums *sums = file_io_find_in(turn, key);

	if (sums)
		return sums;
	sums = file_io_make_in(turn, key, (struct file_sums *)&no_file_sums);
	if (sums) {
		owner_of_current(&sums->owner);
		return sums;
	}
	count(COUNT_TOTALS_FULL);
	key->tgid = 0;
	sums = file_rest_find_in(turn, key);
	return sums ? sums : file_rest_make_in(turn, key, (struct file_sums *)&no_file_sums);
}

/* As it lies in memory. */
static __always_inline u64 file_key_bits(struct file_key *key)
{
	return key->tgid | (u64)key->kind << 32 | (u64)key->operation << 48;
}

static __always_inline void file_count(struct caller *caller, u32 fd, u16 operation, long result,
				       u64 took_ns)
{
	struct file_key key = { .tgid = caller->tgid, .operation = operation };
	bool failed = result < 0;
	u32 turn = turn_now();
	struct file_io_slot *slot;
	struct file_sums *sums;
	u64 bits;

	key.kind = result == -EBADF ? FILE_NONE : kind_of_descriptor(caller, fd);
	bits = file_key_bits(&key);
	slot = fileio_timed ? NULL : file_io_slot_of(turn, bits);
	if (slot && slot->key == bits) {
		slot->sums[0] += 1;
		slot->sums[1] += failed;
		slot->sums[2] += failed ? 0 : result;
		return;
	}
	sums = file_sums_of(turn, &key);
	if (!sums)
		return; /* cannot be: the rest has its place */
	TURN_ADD(sums->calls, 1);
	if (failed)
		TURN_ADD(sums->errors, 1);
	else
		TURN_ADD(sums->bytes, (u64)result);
	if (took_ns)
		histogram_add(&sums->latency, took_ns);
	if (slot && key.tgid)
		file_io_settle(turn, slot, bits, sums->calls);
}

static __always_inline void fileio_on_exit(struct file_call *call, struct caller *caller,
					   struct pt_regs___syscall *regs, long result, u64 took_ns)
{
	if (call->reads != NO_ARGUMENT)
		file_count(caller, syscall_argument(regs, call->reads), FILE_READ, result, took_ns);
	if (call->writes != NO_ARGUMENT)
		file_count(caller, syscall_argument(regs, call->writes), FILE_WRITE, result,
			   took_ns);
}

#endif
