// SPDX-License-Identifier: Apache-2.0
// Spends what the kernel-side probes count, a known amount: system calls, reads and writes, faults, switches. Prints its own
// counts as one line of JSON, then waits until its input ends, so that /proc can still be read: `spend MODE [count] [size]`.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define LIFE_SECONDS 300
#define SIZE_MAX_BYTES (1 << 20)

static long count = 1000;
static long size = 100;
static char buffer[SIZE_MAX_BYTES];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

// Standard input and output are sockets (Node makes such for its children), and are spoken to by calls of sockets alone, so
// that what is said there is no read or write of files.
static void begin(void)
{
	char text;

	if (recv(0, &text, 1, 0) != 1)
		fail("begin");
}

// The line of counts, and the wait for the end of the input.
static void hold(const char *counts)
{
	char text[512];
	int length = snprintf(text, sizeof(text), "{\"pid\": %d, %s}\n", getpid(), counts);

	if (send(1, text, length, 0) != length)
		fail("send");
	while (recv(0, text, sizeof(text), 0) > 0)
		;
}

static void run_calls(void)
{
	char text[128];

	for (long i = 0; i < count; i++)
		syscall(SYS_getppid);
	for (long i = 0; i < count / 2; i++)
		if (syscall(SYS_fchdir, -1) != -1 || errno != EBADF)
			fail("fchdir");
	for (long i = 0; i < count / 4; i++)
		if (syscall(SYS_chdir, "/no/such/folder") != -1 || errno != ENOENT)
			fail("chdir");
	snprintf(text, sizeof(text), "\"getppid\": %ld, \"fchdir\": %ld, \"chdir\": %ld", count,
	         count / 2, count / 4);
	hold(text);
}

// Sleeps of a known length: their latency is known from below.
static void run_sleeps(void)
{
	struct timespec length = { .tv_nsec = size * 1000 };
	char text[64];

	for (long i = 0; i < count; i++)
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &length, NULL);
	snprintf(text, sizeof(text), "\"sleeps\": %ld", count);
	hold(text);
}

static void pump(int to, int from)
{
	for (long i = 0; i < count; i++) {
		if (write(to, buffer, size) != size)
			fail("write");
		for (long got = 0; got < size;) {
			long part = read(from, buffer, size - got);

			if (part <= 0)
				fail("read");
			got += part;
		}
	}
}

// Each kind of file: `count` writes of `size` bytes, and reads until they are back.
static void run_files(void)
{
	char path[] = "/tmp/sonde-spend-XXXXXX";
	int file = mkstemp(path), again, pipes[2], sockets[2], null, zero, tty;
	char text[64];
	struct termios raw;

	begin();
	if (file < 0 || (again = open(path, O_RDONLY)) < 0 || pipe(pipes) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		fail("open");
	unlink(path);
	pump(file, again);
	pump(pipes[1], pipes[0]);
	pump(sockets[1], sockets[0]);
	null = open("/dev/null", O_WRONLY);
	zero = open("/dev/zero", O_RDONLY);
	pump(null, zero);
	tty = posix_openpt(O_RDWR | O_NOCTTY);
	if (tty < 0 || grantpt(tty) || unlockpt(tty))
		fail("pty");
	again = open(ptsname(tty), O_RDWR | O_NOCTTY);
	tcgetattr(again, &raw);
	cfmakeraw(&raw);
	tcsetattr(again, TCSANOW, &raw);
	pump(tty, again);
	for (long i = 0; i < count; i++)
		if (read(-1, buffer, 1) != -1 || pread(file, buffer, size, 0) != size)
			fail("pread");
	snprintf(text, sizeof(text), "\"count\": %ld, \"size\": %ld", count, size);
	hold(text);
}

static void run_faults(void)
{
	long page = sysconf(_SC_PAGESIZE);
	struct rusage before, after;
	char text[128];
	char *memory;

	getrusage(RUSAGE_SELF, &before);
	memory = mmap(NULL, count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	              -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	madvise(memory, count * page, MADV_NOHUGEPAGE);
	for (long i = 0; i < count; i++)
		memory[i * page] = 1;
	getrusage(RUSAGE_SELF, &after);
	snprintf(text, sizeof(text), "\"minor\": %ld, \"touched\": %ld",
	         after.ru_minflt - before.ru_minflt, count);
	hold(text);
}

// Switches of both kinds, and waits: two processes that want one processor, and pass a byte to and fro.
static void run_switches(void)
{
	int there[2], back[2];
	char text[64];
	cpu_set_t one;
	pid_t child;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (pipe(there) || pipe(back))
		fail("pipe");
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(there[1]);
		while (read(there[0], buffer, 1) == 1)
			if (write(back[1], buffer, 1) != 1)
				fail("write");
		_exit(0);
	}
	for (long i = 0; i < count; i++) {
		if (write(there[1], buffer, 1) != 1 || read(back[0], buffer, 1) != 1)
			fail("pass");
		for (volatile long spin = 0; spin < size; spin++)
			;
		if (i % 8 == 0)
			sched_yield();
	}
	snprintf(text, sizeof(text), "\"count\": %ld, \"child\": %d", count, child);
	hold(text);
}

// `count` children that end at once; what they were charged, as wait4 tells it.
static void run_children(void)
{
	struct rusage each;
	long minor = 0, voluntary = 0, involuntary = 0, user_us = 0;
	char text[256];

	for (long i = 0; i < count; i++) {
		pid_t child = fork();

		if (child == 0)
			_exit(0);
		if (child < 0 || wait4(child, NULL, 0, &each) != child)
			fail("child");
		minor += each.ru_minflt;
		voluntary += each.ru_nvcsw;
		involuntary += each.ru_nivcsw;
		user_us += each.ru_utime.tv_usec + each.ru_stime.tv_usec;
	}
	snprintf(text, sizeof(text),
	         "\"children\": %ld, \"minor\": %ld, \"voluntary\": %ld, \"involuntary\": %ld, \"us\": %ld",
	         count, minor, voluntary, involuntary, user_us);
	hold(text);
}

// Takes memory until the kernel ends it, from when there is a line of input. `size`: MiB at most.
static void run_eat(void)
{
	begin();
	for (long i = 0; i < size; i++) {
		char *part = malloc(1 << 20);

		if (!part)
			break;
		memset(part, 1, 1 << 20);
	}
	hold("\"eaten\": 1");
}

static const struct {
	const char *name;
	void (*run)(void);
} modes[] = {
	{ "calls", run_calls },       { "sleeps", run_sleeps },     { "files", run_files },
	{ "faults", run_faults },     { "switches", run_switches }, { "children", run_children },
	{ "eat", run_eat },
};

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL); // nothing stays behind a test that dies
	alarm(LIFE_SECONDS);
	if (argc > 2)
		count = atol(argv[2]);
	if (argc > 3)
		size = atol(argv[3]);
	if (size > SIZE_MAX_BYTES)
		size = SIZE_MAX_BYTES;
	for (unsigned int i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (!strcmp(argv[1], modes[i].name)) {
			modes[i].run();
			return 0;
		}
	}
	fprintf(stderr, "use: spend calls|sleeps|files|faults|switches|children|eat [count] [size]\n");
	return 2;
}
