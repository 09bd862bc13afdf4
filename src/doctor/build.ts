// Checks of what set-up made: the addon, the kernel object, the embedded store's engine.

import { type Check, fail, ok, skip } from './check.ts';
import { hasLocalReducer } from './network.ts';

export const addon: Check = {
  id: 'addon',
  what: 'the native addon is built and loads',
  why: 'it is the way to the kernel: without it no source can be loaded',
  cure: `Build it; set-up installs libbpf and a C compiler where they are missing:
  npm run setup`,
  look: ({ build }) => {
    const problem = build.addon();
    return problem === undefined ? ok('build/sonde_bpf.node') : fail(problem);
  },
};

export const object: Check = {
  id: 'object',
  what: 'the kernel programs are compiled',
  why: 'the collector loads them from build/sonde.bpf.o',
  cure: `Compile them; set-up installs clang where it is missing:
  npm run setup`,
  look: ({ build }) => {
    const problem = build.object();
    return problem === undefined ? ok('build/sonde.bpf.o') : fail(problem);
  },
};

export const chdb: Check = {
  id: 'chdb',
  what: 'the engine of the embedded store is installed',
  why: 'the reducer keeps its tables in it unless a ClickHouse server is named',
  cure: `Install the optional package, or name a server in reducer.store.url:
  npm install --include=optional`,
  look: ({ build, config }) => {
    if (config.reducer.store.url !== undefined) return skip('not needed: reducer.store.url is set');
    if (!hasLocalReducer(config)) return skip('not needed: the reducer is another machine');
    const problem = build.chdb();
    return problem === undefined ? ok('chdb') : fail(problem);
  },
};
