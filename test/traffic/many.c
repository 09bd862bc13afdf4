// SPDX-License-Identifier: Apache-2.0
/* Many short lives: of cgroups, each with some datagrams, and of processes. */
#define _GNU_SOURCE
#include "traffic.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CGROUPS_MAX 1000000
#define PROCESSES_MAX 1000000

/* This process goes there. */
static void join_cgroup(const char *folder)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
	fd = open(path, O_WRONLY);
	check(fd >= 0 && write(fd, "0", 1) == 1, path);
	close(fd);
}

static void send_datagrams(const struct sockaddr_storage *to, socklen_t length, long count)
{
	int fd = socket(to->ss_family, SOCK_DGRAM, 0); /* belongs to the cgroup that we are in */

	check(fd >= 0, "socket");
	for (long i = 0; i < count; i++)
		check(sendto(fd, "cgroup", 6, 0, (struct sockaddr *)to, length) == 6, "sendto");
	counts.datagrams_written += count;
	close(fd);
}

/* `count` cgroups in `root`, one after another: made, joined, left with `datagrams` sent, removed. */
int run_cgroups(void)
{
	long count = option_number("count", 1, CGROUPS_MAX);
	long datagrams = option_number("datagrams", 1, 1 << 24);
	const char *root = option("root", "");
	struct sockaddr_storage to;
	socklen_t length = option_address(&to);

	for (long i = 0; i < count; i++) {
		char folder[PATH_MAX];

		snprintf(folder, sizeof(folder), "%s/short-%ld", root, i);
		check(!mkdir(folder, 0755), folder);
		join_cgroup(folder);
		send_datagrams(&to, length, datagrams);
		join_cgroup(root);
		check(!rmdir(folder), folder);
	}
	report_counts();
	return 0;
}

/* The parent says how many it saw end, and how. */
int run_processes(void)
{
	long count = option_number("count", 1, PROCESSES_MAX);
	const char *program = option("exec", NULL);
	int status;

	for (long i = 0; i < count; i++) {
		pid_t child = vfork();

		if (child == 0 && program)
			execl(program, program, "-c", "exit 3", NULL);
		if (child == 0)
			_exit(i % 4);
		check(child > 0 && waitpid(child, &status, 0) == child, "child");
		counts.connections++;
		counts.bytes_read += WEXITSTATUS(status); /* the sum of their codes */
	}
	report_counts();
	return 0;
}
