// The command line of `sonde kernel-collector` alone: scripts/build.ts bundles it, so that the process with the rights
// reads one file with no more in it than that role needs.

import { addCollector, parse, program } from './program.ts';

const top = program();
addCollector(top);
await parse(top);
