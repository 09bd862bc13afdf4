// A collector that is killed leaves its placements to the next: a line between the two is seen.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { release } from 'node:os';
import test from 'node:test';
import { hear, startChild } from '../../test/child.ts';
import { liveFolders, Sink, settles } from '../../test/live.ts';
import { NO_PTY, Typist } from '../../test/typist.ts';

/** Before 5.15 the kernel has no links of perf events, which could be pinned. */
const OUTLIVES = !/^([0-4]|5\.(\d|1[0-4]))\./.test(release());
const OWN = JSON.stringify({ probes: { bash: { enabled: true } } });

test('lines are seen before, between and after', { skip: NO_PTY }, async (t) => {
  const sink = await Sink.listen();
  t.after(() => sink.close());
  const { data_dir, pin_path } = liveFolders(t);
  const words = [data_dir, pin_path, `${sink.port}`, `${8 << 20}`, OWN];
  const typist = new Typist(t);
  const shell = await typist.open('shell');
  const first = startChild(t, words);
  assert.equal((await hear(first)).taken_over, false);
  await typist.type(shell, 'echo one');
  const gone = once(first, 'exit');
  first.kill('SIGKILL');
  await gone;
  await typist.type(shell, 'echo between');
  const second = startChild(t, words);
  assert.equal((await hear(second)).taken_over, true);
  await typist.type(shell, 'echo two');
  const flush = async (): Promise<void> => {
    second.send('flush');
    await hear(second);
  };
  await settles(flush, () => sink.rows({ pid: shell.pid }, 'bash').map(({ cmd }) => cmd), [
    'echo one',
    ...(OUTLIVES ? ['echo between'] : []),
    'echo two',
  ]);
  second.send('stop');
  await hear(second);
});
