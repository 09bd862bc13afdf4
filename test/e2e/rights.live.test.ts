// A user without root, whose Node has file capabilities: what these allow runs and is exact, what they lack is off and says so.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NO_LIVE } from '../live.ts';
import { talk } from '../traffic/traffic.ts';
import { makePlace, type Place, Running, until } from './sonde.ts';

const NOBODY = 65534;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
const ROOT = join(import.meta.dirname, '../..');
const TALK = { connections: 50, request: 100, response: 300 };
const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

function cannot(): string | false {
  if (NO_LIVE !== false) return NO_LIVE;
  if (spawnSync('setcap', ['-h'], { env: { PATH } }).error) return 'needs setcap (libcap2-bin)';
  const reached = spawnSync(AS_NOBODY[0]!, [
    ...AS_NOBODY.slice(1),
    'test',
    '-x',
    join(ROOT, 'sonde'),
  ]);
  return reached.status === 0 ? false : `another user may not enter ${ROOT}`;
}

interface Granted {
  readonly place: Place;
  readonly running: Running;
}

/** The agent as nobody, under a copy of Node with these capabilities, in a bpffs of its own. */
async function startAs(t: TestContext, capabilities: string): Promise<Granted> {
  const place = await makePlace(t, { EBPF_NET_INTAKE_HOST: '', EBPF_NET_INTAKE_PORT: '' });
  const node = join(place.dir, 'node');
  copyFileSync(process.execPath, node);
  if (capabilities !== '') execFileSync('setcap', [`${capabilities}+ep`, node], { env: { PATH } });
  const bpffs = join(place.dir, 'bpf');
  mkdirSync(bpffs);
  execFileSync('mount', ['-t', 'bpf', 'bpf', bpffs]);
  place.undo(() => execFileSync('umount', [bpffs]));
  const pins = join(bpffs, 'pins');
  mkdirSync(pins, 0o700);
  chownSync(pins, NOBODY, NOBODY);
  for (const folder of [place.dir, bpffs]) chmodSync(folder, 0o755);
  const config = join(place.dir, 'agent.yaml');
  const metrics = `127.0.0.1:${place.metrics_port}`;
  writeFileSync(
    config,
    `collectors: {ebpf: {interval: 200ms, ring_bytes: 8MiB, metrics: "${metrics}"}}\n`,
  );
  const running = new Running(place, ['start', '--config', config], {
    env: { SONDE_NODE: node, SONDE_COLLECTOR_PIN_PATH: pins, SONDE_COLLECTOR_INTERVAL: '200ms' },
    through: AS_NOBODY,
  });
  return { place, running };
}

async function exactTcp(t: TestContext, { place, running }: Granted): Promise<void> {
  const done = await talk(t, 'tcp', TALK, TALK);
  const { pid, bytes_written } = done.server[0]!;
  const sent = new RegExp(`^tfo_ebpf_tcp_bytes_sent\\{pid="${pid}".*\\} ${bytes_written}$`, 'm');
  const page = async () => {
    return await (await fetch(`http://127.0.0.1:${place.metrics_port}/metrics`)).text();
  };
  await until(
    async () => sent.test(await page()),
    () => String(sent),
    running,
  );
}

const skip = cannot();

test('with CAP_BPF and CAP_PERFMON tcp is exact, udp is off and says why', { skip }, async (t) => {
  const granted = await startAs(t, 'cap_bpf,cap_perfmon');
  const { running } = granted;
  await running.says(/metrics at/);
  await exactTcp(t, granted);
  const { code, stderr } = await running.end();
  assert.equal(code, 0, stderr);
  assert.match(stderr, /INFO .*: tcp: on/);
  assert.match(stderr, /WARN .*: udp: off, this user lacks CAP_NET_ADMIN \(sonde doctor --grant\)/);
});

test('with CAP_NET_ADMIN as well both are on', { skip }, async (t) => {
  const granted = await startAs(t, 'cap_bpf,cap_perfmon,cap_net_admin');
  await granted.running.says(/metrics at/);
  await exactTcp(t, granted);
  const { code, stderr } = await granted.running.end();
  assert.equal(code, 0, stderr);
  assert.match(stderr, /INFO .*: udp: on/);
  assert.doesNotMatch(stderr, /WARN .*: udp/);
});

test('without any it refuses, and names what each source is missing', { skip }, async (t) => {
  const { running } = await startAs(t, '');
  const { code, stderr } = await running.ended;
  assert.equal(code, 2);
  assert.match(stderr, /tcp is missing CAP_BPF, CAP_PERFMON/);
  assert.match(stderr, /udp is missing CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN/);
});
