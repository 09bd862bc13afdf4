// SPDX-License-Identifier: Apache-2.0
#include "traffic.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct {
	const char *name;
	int (*run)(void);
} modes[] = {
	{ "server", run_server },
	{ "client", run_client },
	{ "udp-server", run_udp_server },
	{ "udp-client", run_udp_client },
	{ "cgroups", run_cgroups },
	{ "processes", run_processes },
	{ "sockets", run_sockets },
};

/* Nothing stays behind a test that dies. Neither bound is inherited, so each process sets its own. */
void bound_life(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(option_number("seconds", 120, 600));
}

static void raise_descriptors(void)
{
	struct rlimit limit = { FDS_MAX, FDS_MAX };

	setrlimit(RLIMIT_NOFILE, &limit); /* what it refuses shows when sockets are opened */
}

/* `cgroup`: joins it. `uid`: becomes this user, after that. */
static void change_place(void)
{
	const char *cgroup = option("cgroup", NULL);
	long uid = option_number("uid", 0, 65535);
	int fd = cgroup ? open(cgroup, O_WRONLY) : -1;

	if (cgroup)
		check(fd >= 0 && write(fd, "0", 1) == 1, "cgroup.procs");
	if (uid)
		check(!setuid(uid), "setuid");
}

int main(int argc, char **argv)
{
	options_read(argc - 1, argv + 1);
	signal(SIGPIPE, SIG_IGN);
	bound_life();
	raise_descriptors();
	change_place();
	for (unsigned int i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (!strcmp(argv[1], modes[i].name))
			return modes[i].run();
	}
	fprintf(stderr, "use: traffic server|client|udp-server|udp-client [name=value]...\n");
	return 2;
}
