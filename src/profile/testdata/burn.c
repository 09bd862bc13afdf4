// SPDX-License-Identifier: Apache-2.0
/* Burns processor time in functions of known names: three parts in `heavy`, one in `light`. Prints its own processor time. */
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

	while (clock() < seconds * CLOCKS_PER_SEC) {
		heavy();
		light();
	}
	printf("%f\n", (double)clock() / CLOCKS_PER_SEC);
	return 0;
}
