// Checks of the way to the reducer, and of the reducer's own ports.

import type { HostPort } from '../config/leaf.ts';
import { formatHostPort } from '../config/leaf.ts';
import { intakeOf, isLoopback, speaksTls } from '../config/role.ts';
import type { Config } from '../config/schema.ts';
import {
  about,
  type Check,
  type Finding,
  fail,
  ok,
  type Place,
  skip,
  warn,
  wordsOf,
} from './check.ts';
import { type Holder, holderName, holdersOf, listeners, sondeRole } from './processes.ts';

/** Whether the reducer is to run on this machine: no other one is named. */
export function hasLocalReducer({ collector: { intake_host } }: Config): boolean {
  return intake_host === undefined || isLoopback(intake_host);
}

const NOT_RUNNING = 'no reducer runs here now; `sonde run` starts one';

export const intake: Check = {
  id: 'intake',
  what: 'the reducer can be reached',
  why: 'until it can, rows wait in the spool, and the oldest are dropped when it is full',
  cure: `Set collector.intake_host and intake_port (EBPF_NET_INTAKE_HOST, EBPF_NET_INTAKE_PORT, usually 8000) to the reducer's, start it,
and open the port between the two. For TLS both ends must agree: collector.tls.enabled, ca_path, server_name. Try by hand:
  getent hosts HOST
  openssl s_client -connect HOST:8000 -servername HOST -CAfile CA`,
  look: async ({ config, network }) => {
    const at = intakeOf(config);
    const name = formatHostPort(at);
    const bad = (found: string): Finding => {
      const own = config.collector.intake_host === undefined;
      return own ? skip(`${name}: ${NOT_RUNNING}`) : fail(`${name}: ${found}`);
    };
    const addresses = await tried(network.resolve(at.host));
    if (!addresses.ok) return bad(`the name does not resolve (${addresses.reason})`);
    const open = await tried(network.connect(at.host, at.port));
    if (!open.ok) return bad(`the port does not answer (${open.reason})`);
    const { tls } = config.collector;
    const greeted = await tried(speaksTls(tls) ? network.handshake(at.host, at.port, tls) : no_tls);
    if (!greeted.ok) return bad(`TLS: ${greeted.reason}`);
    const health = await tried(network.health());
    if (!health.ok) return bad(`the port answers, but not as a reducer (${health.reason})`);
    return ok(`${name} answers${greeted.value === '' ? '' : `, TLS: ${greeted.value}`}`);
  },
};

const no_tls = Promise.resolve('');

type Tried<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly reason: string };

async function tried<Value>(promise: Promise<Value>): Promise<Tried<Value>> {
  try {
    return { ok: true, value: await promise };
  } catch (error) {
    return { ok: false, reason: wordsOf(error) };
  }
}

export const reducer: Check = {
  id: 'reducer',
  what: 'the reducer is well',
  why: 'it takes what collectors send, stores it and answers questions; a store that refuses rows sends them back to the spools',
  cure: `The finding has the store's words. See the reducer's log (log.file_path), and the room on its disk:
  df -h DIR
  sonde ledger`,
  look: async ({ config, network }) => {
    const health = await tried(network.health());
    if (!health.ok) {
      const own = config.collector.intake_host === undefined;
      return skip(own ? NOT_RUNNING : `it does not answer: ${health.reason}`);
    }
    const { ok: well, intake: state, collectors } = health.value;
    if (!well) return warn(`the store refused rows: ${state.last_failure}`);
    return ok(`${collectors} ${collectors === 1 ? 'collector' : 'collectors'} connected`);
  },
};

export const metrics: Check = {
  id: 'metrics',
  what: 'Prometheus finds its page',
  why: 'dashboards and alerts live on it',
  cure: `Look at the page by hand; its place is reducer.metrics (--metrics):
  curl -s http://localhost:8888/metrics | grep sonde`,
  look: async ({ config, network }) => {
    if (!hasLocalReducer(config)) return skip('the reducer is another machine');
    const health = await tried(network.health());
    if (!health.ok) return skip(NOT_RUNNING);
    const page = await tried(network.metrics());
    const name = formatHostPort(config.reducer.metrics);
    return page.ok ? ok(`${name}, ${page.value} lines`) : warn(`${name}: ${page.reason}`);
  },
};

export const ports: Check = {
  id: 'ports',
  what: "nobody else has the reducer's ports",
  why: 'a reducer that cannot listen does not start',
  cure: `Stop the other program, or take another port: --listen HOST:PORT, --metrics HOST:PORT. Who it is:
  ss -ltnp`,
  look: async (place) => {
    const { reducer: own } = place.config;
    if (!hasLocalReducer(place.config)) return skip('the reducer is another machine');
    const answers = (await tried(place.network.health())).ok;
    return [portFinding(place, own.listen, answers), portFinding(place, own.metrics, answers)];
  },
};

function portFinding({ machine }: Place, { port }: HostPort, reducer_answers: boolean): Finding {
  const subject = String(port);
  const tables = ['/proc/net/tcp', '/proc/net/tcp6'].map((path) => machine.read(path) ?? '');
  const inodes = new Set(tables.flatMap((text) => listeners(text, port)));
  if (inodes.size === 0) return about(subject, ok('free'));
  const holders = [...holdersOf(inodes, machine).values()];
  if (holders.length === 0) {
    const found = "held by another user's process";
    return about(subject, reducer_answers ? ok(`${found}; a reducer answers`) : warn(found));
  }
  const names = [...new Set(holders.map(holderName))].join(', ');
  const others = holders.some((holder: Holder) => sondeRole(holder) === undefined);
  return about(subject, others && !reducer_answers ? fail(`held by ${names}`) : ok(names));
}

export const ephemeral_ports: Check = {
  id: 'ephemeral-ports',
  what: "the kernel's client ports are folded",
  why: 'client ports from collector.ephemeral_port on become one row; those below it make a row each, which fills the tables',
  cure: `Set collector.ephemeral_port to the first port that the kernel gives to clients, or move that range:
  sysctl net.ipv4.ip_local_port_range`,
  look: ({ machine, config }) => {
    const text = machine.read('/proc/sys/net/ipv4/ip_local_port_range');
    const [low, high] = (text ?? '').trim().split(/\s+/).map(Number);
    if (text === undefined || !Number.isInteger(low)) return skip('the range cannot be read');
    const from = config.collector.ephemeral_port;
    const found = `client ports ${low} to ${high}, folded from ${from}`;
    return low < from ? warn(found) : ok(found);
  },
};
