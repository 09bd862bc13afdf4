// The document's agent, from outside: `sonde start --config FILE`, its page, what bpftool shows, HUP, TERM, faulty files.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { NO_LIVE } from '../live.ts';
import { type Counts, talk } from '../traffic/traffic.ts';
import { command, makePlace, type Place, Running, until } from './sonde.ts';

const TALK = { connections: 50, request: 1000, response: 3000 };
const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

/** The file speaks for itself: no variable may say the same. */
const NO_VARIABLES = {
  SONDE_COLLECTOR_INTERVAL: '',
  SONDE_COLLECTOR_PIN_PATH: '',
  EBPF_NET_INTAKE_HOST: '',
  EBPF_NET_INTAKE_PORT: '',
};

function config({ dir, pin_path, metrics_port }: Place, more = ''): string {
  const path = join(dir, 'tfo-agent.yaml');
  writeFileSync(
    path,
    `collectors:
  ebpf:
    enabled: true
    interval: 200ms
    pin_path: ${pin_path}
    metrics: 127.0.0.1:${metrics_port}
${more}`,
  );
  return path;
}

async function start(place: Place, path: string, env = {}): Promise<Running> {
  const running = new Running(place, ['start', '--config', path], { env });
  await running.says(/metrics at 127\.0\.0\.1:\d+\/metrics/);
  return running;
}

async function page({ metrics_port }: Place): Promise<readonly string[]> {
  const response = await fetch(`http://127.0.0.1:${metrics_port}/metrics`);
  assert.equal(response.status, 200);
  return (await response.text()).split('\n');
}

/** The metrics of one process, without `tfo_ebpf_`. */
async function metricsOf(place: Place, pid: number): Promise<Readonly<Record<string, number>>> {
  const pattern = new RegExp(`^tfo_ebpf_(\\w+)\\{pid="${pid}",comm="\\w+"\\} (.*)$`);
  const found = (await page(place)).flatMap((line) => {
    const [, name, value] = pattern.exec(line) ?? [];
    return name === undefined ? [] : [[name, Number(value)] as const];
  });
  return Object.fromEntries(found);
}

async function exact(place: Place, one: Counts, running: Running): Promise<void> {
  const expected = {
    tcp_connections: one.connections,
    tcp_bytes_sent: one.bytes_written,
    tcp_bytes_recv: one.bytes_read,
  };
  const seen = async () => {
    const { tcp_connections, tcp_bytes_sent, tcp_bytes_recv } = await metricsOf(place, one.pid);
    return JSON.stringify({ tcp_connections, tcp_bytes_sent, tcp_bytes_recv });
  };
  const holds = async () => (await seen()) === JSON.stringify(expected);
  await until(holds, () => JSON.stringify(expected), running);
}

test('counts what the programs counted, and leaves nothing behind', {
  skip: NO_LIVE,
}, async (t) => {
  const place = await makePlace(t, NO_VARIABLES);
  const running = await start(place, config(place));
  const done = await talk(t, 'tcp', TALK, TALK);
  for (const one of [...done.server, ...done.client]) await exact(place, one, running);
  const lines = await page(place);
  assert.ok(lines.some((line) => /^sonde_source_up\{.*source="tcp".* 1$/.test(line)));
  const { code, stderr } = await running.end('SIGTERM');
  assert.equal(code, 0, stderr);
  assert.equal(existsSync(place.pin_path), false, 'pins are left');
  assert.equal(existsSync(join(place.dir, 'data')), false, 'the agent writes no data');
});

const no_bpftool =
  spawnSync('bpftool', ['version'], { env: { PATH } }).status === 0 ? false : 'needs bpftool';

test('bpftool finds every pinned map and program by the name tfo', {
  skip: NO_LIVE || no_bpftool,
}, async (t) => {
  const place = await makePlace(t, NO_VARIABLES);
  const running = await start(place, config(place));
  const list = (kind: string): readonly { id: number; name?: string }[] =>
    JSON.parse(execFileSync('bpftool', ['-j', kind, 'list'], { env: { PATH }, encoding: 'utf8' }));
  const pinned = (kind: string, path: string) => {
    const words = ['-j', kind, 'show', 'pinned', path];
    return JSON.parse(execFileSync('bpftool', words, { env: { PATH }, encoding: 'utf8' })).id;
  };
  const names = readdirSync(place.pin_path);
  const maps = names.filter((name) => !/^(links|programs)_/.test(name));
  assert.ok(maps.includes('sonde_ring') && maps.length > 5);
  const shown = new Map(list('map').map(({ id, name }) => [id, name]));
  for (const name of maps) {
    assert.match(shown.get(pinned('map', join(place.pin_path, name))) ?? '', /^tfo_/, name);
  }
  const folder = join(place.pin_path, names.find((name) => name.startsWith('programs_')) ?? '');
  const programs = new Map(list('prog').map(({ id, name }) => [id, name]));
  for (const name of readdirSync(folder)) {
    assert.match(programs.get(pinned('prog', join(folder, name))) ?? '', /^tfo_/, name);
  }
  await running.end();
});

test('HUP takes a new filter over; what it leaves out is counted', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t, NO_VARIABLES);
  const path = config(place);
  const running = await start(place, path);
  const before = await talk(t, 'tcp', TALK, TALK);
  await exact(place, before.server[0]!, running);
  config(place, '    process_exclude: [traff*]\n');
  running.child.kill('SIGHUP');
  await running.says(/configuration read again \(changed=\["collector\.filter\.exclude_names"\]\)/);
  const after = await talk(t, 'tcp', TALK, TALK);
  const sampled = /^sonde_ledger_count_total\{.*stage="filter",table="netflow",outcome="sampled"/;
  await until(
    async () => (await page(place)).some((line) => sampled.test(line)),
    () => 'rows that were left out',
    running,
  );
  assert.deepEqual(await metricsOf(place, after.server[0]!.pid), {});
  assert.notDeepEqual(await metricsOf(place, before.server[0]!.pid), {});
  assert.equal((await running.end()).code, 0);
});

test('a sub-collector that fails costs one warning, the page goes on', {
  skip: NO_LIVE,
}, async (t) => {
  const place = await makePlace(t, NO_VARIABLES);
  const running = await start(place, config(place), { SONDE_FAIL_SOURCE: 'tcp,udp' });
  const lines = await page(place);
  assert.ok(lines.includes('# TYPE tfo_ebpf_tcp_connections counter'));
  const { code, stderr } = await running.end();
  assert.equal(code, 0);
  const warnings = stderr.split('\n').filter((line) => line.includes(' WARN '));
  const failed = warnings.filter((line) =>
    line.includes('Failed to load network programs, disabling'),
  );
  assert.equal(failed.length, 1, stderr);
});

test('faulty files are refused with line, column and cure', async (t) => {
  const place = await makePlace(t, NO_VARIABLES);
  const refused = async (more: string, expected: RegExp): Promise<void> => {
    const path = config(place, more);
    const { code, stderr } = await command(place, ['start', '--config', path]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, expected);
  };
  await refused(
    '    intervall: 1s\n',
    /tfo-agent\.yaml:7:5: collectors\.ebpf\.intervall: is no known key; /,
  );
  await refused(
    '    network: {enabled: perhaps}\n',
    /yaml:7:24: .*"perhaps" is neither true nor false/,
  );
  await refused('    maps: {sockets_max: 1}\n', /yaml:7:25: .*1 is out of range; give 64 to/);
  await refused('    filter: {include_pids: [x]}\n', /yaml:7:\d+: .*is no number; give a whole/);
});
