// The collector's image without a container: what the Containerfile copies, in a folder of its own, runs as it would there.

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findMount } from '../../src/bpf/features.ts';
import { NO_LIVE } from '../live.ts';
import { ROOT, textOf } from './files.ts';

test('the collector runs from the files of its image alone', { skip: NO_LIVE }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'sonde-image-'));
  const pins = join(findMount('bpf')!, `sonde-image-${process.pid}`);
  t.after(() => {
    rmSync(dir, { recursive: true });
    rmSync(pins, { recursive: true, force: true });
  });
  const image = join(dir, 'opt');
  execFileSync('sh', [join(ROOT, 'deploy/assemble.sh'), 'collector', image]);
  const copied = join(dir, 'elsewhere'); // as COPY would
  cpSync(image, copied, { recursive: true });
  const files = readdirSync(copied, { recursive: true, encoding: 'utf8' });
  assert.ok(!files.some((name) => /chdb|\.ts$/.test(name)), 'it carries a store, or sources');
  const bytes = files.reduce((sum, name) => sum + statSync(join(copied, name)).size, 0);
  assert.ok(bytes < 160e6, `${bytes} bytes`);
  const env = { PATH: process.env.PATH, SONDE_COLLECTOR_PIN_PATH: pins };
  const other = spawnSync(join(copied, 'sonde'), ['query', 'SELECT 1'], { encoding: 'utf8' });
  assert.deepEqual([other.status, other.stdout], [2, '']);
  assert.match(other.stderr, /^sonde: this package has the commands kernel-collector and start/);
  const words = ['start', '--metrics', '127.0.0.1:0', '--interval', '200ms'];
  const child = spawn(join(copied, 'sonde'), words, { env, cwd: dir });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  const port = await new Promise<string>((resolve, reject) => {
    child.stderr.on('data', (text) => {
      said += String(text);
      const found = /metrics at 127\.0\.0\.1:(\d+)/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once('close', () => reject(new Error(said)));
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  assert.match(page, /^# TYPE tfo_ebpf_tcp_bytes_sent counter$/m);
  child.kill('SIGTERM');
  assert.equal(await ended, 0, said);
  assert.equal(existsSync(pins), false);
});

test('the whole package has its commands, and runs by itself', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'sonde-whole-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const whole = join(dir, 'opt');
  execFileSync('sh', [join(ROOT, 'deploy/assemble.sh'), 'whole', whole]);
  assert.deepEqual(readdirSync(join(whole, 'src')).sort(), readdirSync(join(ROOT, 'src')).sort());
  const env = { PATH: process.env.PATH };
  const { status, stdout, stderr } = spawnSync(join(whole, 'sonde'), ['reducer', '--help'], {
    env,
    cwd: dir,
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /Usage: sonde reducer/);
});

test('the Containerfile copies what is assembled, and lists what it installs', () => {
  const text = textOf('Containerfile');
  const stages = [...text.matchAll(/^FROM (\S+) AS (\w+)$/gm)].map(([, , name]) => name);
  assert.deepEqual(stages, ['build', 'collector', 'reducer']);
  assert.match(text, /assemble\.sh collector \/out\/collector/);
  assert.match(text, /^COPY --from=build \/out\/collector \/opt\/sonde$/m);
  assert.match(text, /^COPY --from=build \/out\/whole \/opt\/sonde$/m);
  const collector = text.slice(text.indexOf('AS collector'), text.indexOf('AS reducer'));
  assert.doesNotMatch(collector, /clang|npm|\/out\/whole/);
});
