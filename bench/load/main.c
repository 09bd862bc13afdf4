// SPDX-License-Identifier: Apache-2.0
/*
 * load http|udp|hold|exchange name=value …, or: load exec PROGRAM ARGUMENT …
 * exec runs a program and tells what processor time it took, to the microsecond.
 */
#define _GNU_SOURCE
#include "load.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int exec_load(char **command)
{
	uint64_t start = now_ns();
	int status = 1;
	pid_t child;

	if (!command[0])
		return 2;
	child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execvp(command[0], command);
		die(command[0]);
	}
	signal(SIGINT, SIG_IGN);
	waitpid(child, &status, 0);
	printf("{\"cpu_us\":%.0f,\"wall_ns\":%llu}\n", cpu_us(RUSAGE_CHILDREN),
	       (unsigned long long)(now_ns() - start));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int count, char **arguments)
{
	const char *mode = count > 1 ? arguments[1] : "";

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(mode, "exec"))
		return exec_load(arguments + 2);
	words_read(count - 2, arguments + 2);
	alarm(SECONDS_MAX * 4);
	if (!strcmp(mode, "http"))
		return http_load();
	if (!strcmp(mode, "udp"))
		return udp_load();
	if (!strcmp(mode, "hold"))
		return hold_load();
	if (!strcmp(mode, "exchange"))
		return exchange_load();
	fprintf(stderr, "load: http, udp, hold, exchange or exec, not '%s'\n", mode);
	return 2;
}
