// The real answers behind the checks: the built files, the network, the kernel's types, a trial, the running reducer.

import { lookup } from 'node:dns/promises';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect as connectTcp, isIP } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { BpfError } from '../bpf/error.ts';
import { libbpfVersion } from '../bpf/features.ts';
import { KernelBtf } from '../bpf/kernel-btf.ts';
import { BpfObject } from '../bpf/object.ts';
import { BpfProgram } from '../bpf/program.ts';
import { lockPins } from '../collector/pin_lock.ts';
import { formatHostPort } from '../config/leaf.ts';
import { intakeOf, intakeTls } from '../config/role.ts';
import type { Config } from '../config/schema.ts';
import type { Probe } from '../table/probe.ts';
import { type Asker, asker } from '../wire/ask.ts';
import type {
  Build,
  Health,
  KernelTypes,
  Network,
  ProgramRuns,
  Running,
  TlsFiles,
} from './check.ts';
import type { Machine } from './machine.ts';
import { collectorLocks } from './processes.ts';
import { tryProbes } from './trial.ts';

const TIMEOUT_MS = 3000;
const QUERY_MS = 10_000;
const KERNEL_OBJECT = new URL('../../build/sonde.bpf.o', import.meta.url);

export const liveBuild: Build = {
  addon: () => problemOf(libbpfVersion),
  object: () => {
    if (!existsSync(KERNEL_OBJECT)) return 'build/sonde.bpf.o is missing';
    return problemOf(() => BpfObject.open(readFileSync(KERNEL_OBJECT)).close());
  },
  chdb: () => problemOf(() => import.meta.resolve('chdb/connection')),
};

function problemOf(act: () => unknown): string | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message.split('\n')[0] : String(error);
  }
}

export function liveTypes({ collector }: Config): KernelTypes {
  return {
    has: (query, name, member) => {
      try {
        using btf = KernelBtf.open(collector.btf_path);
        return btf.has(query, name, member);
      } catch (error) {
        if (error instanceof BpfError) return undefined; // the check `btf` says so
        throw error;
      }
    },
  };
}

export interface Reducer {
  readonly asking: Asker;
  /** Asked once, however many checks want to know. */
  health(): Promise<Health>;
  rows<Row>(sql: string): Promise<readonly Row[]>;
}

export function liveReducer(config: Config): Reducer {
  const { token } = config.collector;
  const tls = intakeTls(config);
  const asking = asker({
    ...intakeOf(config),
    ...(token !== undefined && { token }),
    ...(tls !== undefined && { tls }),
  });
  let health: Promise<Health> | undefined;
  return {
    asking,
    health: () => {
      health ??= json<Health>(asking.action('health', {}, TIMEOUT_MS));
      return health;
    },
    rows: async (sql) => json(asking.action('query', { sql, format: 'json' }, QUERY_MS)),
  };
}

/** Our own reducer's JSON, of this version or one that keeps its fields. */
async function json<Value>(answer: Promise<Buffer>): Promise<Value> {
  try {
    return JSON.parse((await answer).toString('utf8')) as Value;
  } catch (error) {
    throw new Error(shortWords(error), { cause: error });
  }
}

/** Of gRPC's several sentences the system call's. */
function shortWords(error: unknown): string {
  const words = error instanceof Error ? error.message : String(error);
  return /connect E[A-Z]+ \S*\d/.exec(words)?.[0] ?? words;
}

export function liveNetwork(config: Config, reducer: Reducer): Network {
  return {
    resolve: async (host) => {
      const found = await lookup(host, { all: true });
      return found.map(({ address }) => address);
    },
    connect: greet,
    handshake: greetTls,
    health: reducer.health,
    metrics: async () => {
      const url = `http://${formatHostPort(config.reducer.metrics)}/metrics`;
      const answer = await fetch(url, { signal: AbortSignal.timeout(QUERY_MS) });
      if (!answer.ok) throw new Error(`HTTP status ${answer.status}`);
      return (await answer.text()).trimEnd().split('\n').length;
    },
  };
}

function greet(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host, port, timeout: TIMEOUT_MS });
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('timeout', () => socket.destroy(new Error(`no answer in ${TIMEOUT_MS / 1000} s`)));
    socket.once('error', reject);
  });
}

function greetTls(host: string, port: number, files: TlsFiles): Promise<string> {
  const read = (path: string | undefined) => (path === undefined ? undefined : readFileSync(path));
  const name = files.server_name ?? host;
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      host,
      port,
      timeout: TIMEOUT_MS,
      ALPNProtocols: ['h2'],
      ca: read(files.ca_path),
      cert: read(files.cert_path),
      key: read(files.key_path),
      ...(isIP(name) === 0 && { servername: name }),
    });
    socket.once('secureConnect', () => {
      const { subject, valid_to } = socket.getPeerCertificate();
      socket.destroy();
      resolve(`certificate of ${subject?.CN ?? 'nobody'}, valid to ${valid_to}`);
    });
    socket.once('timeout', () => socket.destroy(new Error(`no answer in ${TIMEOUT_MS / 1000} s`)));
    socket.once('error', reject);
  });
}

export function liveRunning(
  config: Config,
  probes: readonly Probe[],
  machine: Machine,
  reducer: Reducer,
): Running {
  const host = sqlText(hostname());
  const recent_s = Math.ceil((3 * config.collector.interval) / 1000) + 30;
  const { pin_path } = config.collector;
  return {
    pinsHeld: () => pinsHeld(pin_path, machine),
    trial: () => tryProbes(probes, config, machine),
    report: () =>
      reducer.rows(`SELECT source, part, state, variant, reason FROM sonde_source
        WHERE host = ${host} AND time > now() - ${recent_s}
        AND time = (SELECT max(time) FROM sonde_source WHERE host = ${host})
        GROUP BY ALL ORDER BY source, part`),
    losses: async () => {
      const rows = await reducer.rows<{ stage: string; reason: string; count: string | number }>(
        `SELECT stage, if(outcome = 'dropped', reason, \`table\`) AS reason, sum(count) AS count
        FROM sonde_ledger WHERE host = ${host} AND time > now() - 3600
        AND (outcome = 'dropped' OR (\`table\` = 'tcp_map_full' AND outcome = 'seen'))
        GROUP BY 1, 2 HAVING count > 0 ORDER BY count DESC`,
      );
      return rows.map((row) => ({ ...row, count: Number(row.count) }));
    },
    containers: async () => {
      const rows = await reducer.rows<{ container_id: string }>(
        `SELECT DISTINCT container_id FROM netflow
        WHERE host = ${host} AND time > now() - 600 AND container_id != ''`,
      );
      return rows.map(({ container_id }) => container_id);
    },
    programs: () => pinnedPrograms(pin_path),
  };
}

function sqlText(text: string): string {
  return `'${text.replaceAll(/['\\]/g, (sign) => `\\${sign}`)}'`;
}

/** Nothing is locked, not even for a moment, where no collector of this machine has a lock at all. */
async function pinsHeld(pin_path: string, machine: Machine): Promise<boolean> {
  if (collectorLocks(machine.read('/proc/net/unix') ?? '').length === 0) return false;
  try {
    (await lockPins(pin_path)).release();
    return false;
  } catch {
    return true; // its one reason to fail
  }
}

function pinnedPrograms(pin_path: string): readonly ProgramRuns[] {
  if (!existsSync(pin_path)) return [];
  const folders = readdirSync(pin_path).filter((name) => name.startsWith('programs_'));
  return folders.flatMap((folder) =>
    readdirSync(join(pin_path, folder)).map((name) => {
      const program = BpfProgram.openPinned(join(pin_path, folder, name));
      try {
        return { program: name, missed: program.stats().recursion_misses };
      } finally {
        program.close();
      }
    }),
  );
}
