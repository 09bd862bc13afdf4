// Who: names, paths, users and containers of processes, most of them gone before anybody can ask /proc.

import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import test from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { findMount } from '../src/bpf/features.ts';
import { type FlowRow, type Live, NO_LIVE, settles, startLive } from '../test/live.ts';
import { buildTraffic, type Cleanup, Traffic, type Words } from '../test/traffic/traffic.ts';

const CONTAINER = 'a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90';

/** A copy of the tool in this folder, gone with the test. */
async function copyTool(t: Cleanup, folder: string, name: string): Promise<string> {
  const tool = await buildTraffic();
  const place = mkdtempSync(join(folder, 'sonde-test-'));
  t.after(() => rmSync(place, { recursive: true }));
  const path = join(place, name);
  mkdirSync(dirname(path), { recursive: true });
  copyFileSync(tool, path);
  return path;
}

/** The columns that say who, of the one row that a server's connection from this client left. */
async function who(
  t: Cleanup,
  live: Live,
  program: string,
  options: { words?: Words; held?: boolean } = {},
): Promise<FlowRow> {
  const { words = {}, held = false } = options;
  const server = await Traffic.start(t, 'server', {});
  const port = await server.port();
  const as = held ? 'hold' : '';
  const client = await Traffic.start(t, 'client', { port, as, ...words }, { program });
  if (held) {
    await client.opened();
    await client.exchange();
  } else {
    await client.counts();
  }
  const rows = (): readonly FlowRow[] => live.sink.rows({ dst_port: port });
  await settles(
    () => live.collector.flush(),
    () => rows().map((row) => row.tcp_established),
    [1],
  );
  const [row] = rows();
  assert.equal(row!.pid, client.pid);
  return row!;
}

/** As the host has it: where this test is chrooted itself, the folder that it is in comes before what it knows. */
function assertPath({ process_executable_path }: FlowRow, path: string): void {
  const is = String(process_executable_path);
  assert.ok(is === path || (is.startsWith('/') && is.endsWith(path)), `${is} is not ${path}`);
}

test('processes', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t);
  const build = dirname(await buildTraffic());

  await t.test('that are gone have name, path and user', async (t) => {
    const path = await copyTool(t, build, 'traffic-copy');
    const row = await who(t, live, path, { words: { uid: 1234 } });
    assert.deepEqual([row.process_name, row.uid], ['traffic-copy', 1234]);
    assertPath(row, path);
  });
  await t.test('that are gone have their path across mounts', async (t) => {
    const shared = '/dev/shm'; // a mount of its own nearly everywhere
    if (!existsSync(shared)) return t.skip(`needs ${shared}`);
    const path = await copyTool(t, shared, 'traffic-copy');
    assertPath(await who(t, live, path), path);
  });
  await t.test('that live have names beyond what the kernel side copies', async (t) => {
    const name = 'traffic-whose-file-name-is-longer-than-a-part-of-a-path';
    const path = await copyTool(t, build, name);
    const row = await who(t, live, path, { held: true });
    assert.deepEqual([row.process_name, row.process_executable_path], [name, path]);
  });
  await t.test('that live have paths deeper than what the kernel side walks', async (t) => {
    const path = await copyTool(t, build, `${'deep/'.repeat(20)}traffic-copy`);
    const row = await who(t, live, path, { held: true });
    assert.deepEqual([row.process_name, row.process_executable_path], [basename(path), path]);
  });
  await t.test('that are gone have their container', async (t) => {
    const root = findMount('cgroup2');
    if (root === undefined) return t.skip('needs cgroup v2');
    const name = `docker-${CONTAINER}.scope`;
    const folder = join(root, name);
    mkdirSync(folder);
    t.after(() => rmdirSync(folder));
    const tool = await buildTraffic();
    await delay(1000); // the collector may have looked through the cgroups a moment ago
    const row = await who(t, live, tool, { words: { cgroup: join(folder, 'cgroup.procs') } });
    assert.deepEqual([row.container_id, row.cgroup_path], [CONTAINER, `/${name}`]);
  });
});
