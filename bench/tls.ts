// What a request over TLS costs with the programs of the `tls` source: processor time of nginx and wrk together, in slices of one
// running load, without programs, with them where sonde places them, and with them on the first bytes of SSL_read and
// SSL_write. Both ends are probed. `node bench/tls.ts` prints it.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { placesInOpenSsl } from '../probes/tls/places.ts';
import { ElfFile } from '../src/bpf/elf-file.ts';
import type { BpfLink } from '../src/bpf/link.ts';
import { BpfObject } from '../src/bpf/object.ts';
import type { Placement } from '../src/table/probe.ts';
import { type Figure, figure, printFigures, type RunOptions } from './figure.ts';
import { OBJECT } from './floor.ts';
import { cpuTimeUs } from './machine.ts';
import { needProgram } from './packages.ts';
import { freePort, makeFolder, Started, undoOnSignals, withCleanup } from './process.ts';
import { cannotRun } from './sonde.ts';

const SLICE_MS = 300;
const SETTLE_MS = 50;
const SOCKETS = ['sock_recv', 'sock_send'] as const;

interface Server {
  readonly port: number;
  readonly status: number;
  readonly pid: number;
}

async function startServer(): Promise<Server> {
  const folder = makeFolder();
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const words = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  const rest = ['-nodes', '-subj', '/CN=bench', '-keyout', key, '-out', cert];
  execFileSync('openssl', [...words, ...rest], { stdio: 'ignore' });
  const [port, status] = [await freePort(), await freePort()];
  const file = join(folder, 'nginx.conf');
  writeFileSync(
    file,
    `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
    events { worker_connections 256; }
    http { access_log off; keepalive_requests 100000000;
      server { listen 127.0.0.1:${status}; location / { stub_status; } }
      server { listen 127.0.0.1:${port} ssl; ssl_certificate ${cert}; ssl_certificate_key ${key};
        location / { return 200 "hello"; } } }`,
  );
  const server = new Started(await needProgram('nginx', 'nginx'), ['-c', file]);
  await delay(500);
  if (!server.running) throw new Error(`nginx: ${server.complaints}`);
  return { port, status, pid: server.pid };
}

/** Third line of the status page: accepted, handled, requests. */
async function requests({ status }: Server): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${status}/`)).text();
  return Number(text.split('\n')[2]?.trim().split(' ')[2]);
}

function libraryOf(pid: number): string {
  const path = /\S*\/libssl\S*/.exec(readFileSync(`/proc/${pid}/maps`, 'latin1'))?.[0];
  if (path === undefined) throw new Error('this nginx has no shared libssl');
  return path;
}

/** As placed without a look at the instructions. */
function plainPlaces(file: ElfFile): readonly Placement[] {
  const symbols = file.symbols(['SSL_read', 'SSL_write']);
  return (['SSL_read', 'SSL_write'] as const).flatMap((name) => {
    const offset = symbols.get(name)?.offset ?? 0;
    const program = name === 'SSL_read' ? 'tls_read' : 'tls_write';
    return [
      { program, offset },
      { program: 'tls_return', offset, ret: true },
    ];
  });
}

interface Arm {
  readonly name: string;
  readonly places: readonly Placement[];
}

function loadPrograms(arms: readonly Arm[]): BpfObject {
  const object = BpfObject.open(OBJECT, { name: 'bench' });
  const placed = arms.flatMap(({ places }) => places.map(({ program }) => program));
  const wanted = new Set<string>([...SOCKETS, ...placed]);
  for (const [name, program] of object.programs) program.autoload = wanted.has(name);
  object.rodata({ tls_enabled: true, tcp_enabled: false, udp_enabled: false });
  object.map('sonde_ring').maxEntries = 64 << 20;
  object.load();
  return object;
}

async function slice(object: BpfObject, arm: Arm, path: string, server: Server, client: number) {
  const links: BpfLink[] = arm.places.map(({ program, offset, ret = false }) =>
    object.program(program).place({ path, offset, ret }),
  );
  if (arm.places.length > 0) for (const name of SOCKETS) links.push(object.program(name).attach());
  await delay(SETTLE_MS);
  const cpu = () => cpuTimeUs(server.pid) + cpuTimeUs(client);
  const before = { cpu: cpu(), requests: await requests(server) };
  await delay(SLICE_MS);
  const after = { cpu: cpu(), requests: await requests(server) };
  for (const link of links) link.close();
  return (after.cpu - before.cpu) / (after.requests - before.requests);
}

export async function run({ quick = false }: RunOptions): Promise<readonly Figure[]> {
  const why = cannotRun();
  if (why !== undefined) return [figure('tls', '', [Number.NaN], why)];
  return withCleanup(async () => {
    const server = await startServer();
    const path = libraryOf(server.pid);
    using file = ElfFile.open(path);
    const own = placesInOpenSsl(file);
    if (typeof own === 'string') throw new Error(own);
    const arms: readonly Arm[] = [
      { name: 'without', places: [] },
      { name: 'sonde', places: own },
      { name: 'on the first bytes', places: plainPlaces(file) },
    ];
    const object = loadPrograms(arms);
    const words = ['-t1', '-c16', '-d60s', `https://127.0.0.1:${server.port}/`];
    const client = new Started(await needProgram('wrk', 'wrk'), words);
    await delay(1000);
    const samples = arms.map((): number[] => []);
    for (let round = 0; round < (quick ? 2 : 8); round += 1) {
      for (const [i, arm] of arms.entries()) {
        samples[i]!.push(await slice(object, arm, path, server, client.pid));
      }
    }
    await client.stop();
    object.close();
    return arms.map(({ name }, i) =>
      figure(`TLS request, both ends: ${name}`, 'us CPU', samples[i]!),
    );
  });
}

if (import.meta.main) {
  undoOnSignals();
  printFigures(await run({ quick: process.argv.includes('--quick') }));
}
