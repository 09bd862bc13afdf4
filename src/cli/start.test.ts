// `sonde start` elsewhere than on Linux: it starts, says so once, and has an empty page.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import test from 'node:test';

const MAIN = join(import.meta.dirname, 'main.ts');
const ELSEWHERE = `data:text/javascript,Object.defineProperty(process,'platform',{value:'darwin'})`;

test('not on Linux: one line, empty metrics, TERM ends it', async () => {
  const words = ['--import', ELSEWHERE, MAIN, 'start', '--metrics', '127.0.0.1:0'];
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  const port = await new Promise<string>((resolve, reject) => {
    child.stderr.on('data', (text) => {
      said += String(text);
      const found = /metrics at 127\.0\.0\.1:(\d+)\/metrics/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once('close', () => reject(new Error(said)));
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  assert.match(page, /^# TYPE tfo_ebpf_syscall_count counter$/m);
  assert.doesNotMatch(page, /^tfo_ebpf_/m);
  child.kill('SIGTERM');
  assert.equal(await ended, 0);
  const lines = said.split('\n').filter((line) => line.includes('eBPF collector'));
  assert.equal(lines.length, 1);
  assert.match(
    lines[0] ?? '',
    /INFO .*eBPF collector: not running on Linux, metrics will be empty$/,
  );
});
