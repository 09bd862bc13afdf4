// SPDX-License-Identifier: Apache-2.0
/*
 * Burns processor time in functions of known names: three parts in `heavy`, one in `light`. From the line that it reads on,
 * for so many seconds of it; prints its own processor time.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile unsigned long sink;

__attribute__((noinline)) static void spin(long rounds)
{
	for (long i = 0; i < rounds; i++)
		sink += i ^ (sink << 1);
}

__attribute__((noinline)) void heavy(void)
{
	spin(300000);
	sink++; /* not the last call of the function, which would become a jump */
}

__attribute__((noinline)) void light(void)
{
	spin(100000);
	sink++;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1;

	struct pollfd line = {.fd = 0, .events = POLLIN};
	clock_t end = 0;

	while (end == 0 || clock() < end) {
		heavy();
		light();
		if (end == 0 && poll(&line, 1, 0) != 0)
			end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
	}
	printf("%f\n", (double)clock() / CLOCKS_PER_SEC);
	return 0;
}
