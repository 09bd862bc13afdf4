// The command line of `sonde start` alone, bundled as that of the collector is (collector_main.ts).

import { addAgent } from './agent.ts';
import { parse, program } from './program.ts';

const top = program();
addAgent(top);
await parse(top);
