// Sockets that several processes have: each has what it read and wrote itself, and who moved nothing has no row.

import assert from 'node:assert/strict';
import test from 'node:test';
import {
  type FlowRow,
  type Live,
  lacks,
  NO_LIVE,
  settles,
  sorted,
  startLive,
} from '../../test/live.ts';
import { type Cleanup, type Counts, Traffic, type Words } from '../../test/traffic/traffic.ts';

/** Why owners are not told apart by the length of each call; false: they are. */
function noLengths({ collector }: Live): string | false {
  const tcp = collector.kernel.plan.sources.find(({ source }) => source === 'tcp');
  const owner = tcp?.parts.find(({ part }) => part === 'owner');
  return owner?.variant !== 'socket calls' && `tcp, owner: ${owner?.reason}`;
}

interface Done {
  readonly port: number;
  readonly counts: readonly Counts[];
}

async function run(t: Cleanup, words: Words): Promise<Done> {
  const traffic = await Traffic.start(t, 'sockets', words);
  const port = await traffic.port();
  return { port, counts: await traffic.counts() };
}

/** By process: what the server's side read and wrote, zeros left out. */
function shares(rows: readonly FlowRow[]): readonly unknown[] {
  return sorted(rows)
    .filter(({ direction }) => direction === 'incoming')
    .map(({ pid, bytes_read, bytes_written }) => ({ pid, bytes_read, bytes_written }))
    .filter(({ bytes_read, bytes_written }) => Number(bytes_read) + Number(bytes_written) > 0);
}

/** The counts of the processes that had the accepted socket, by their own. */
function counted({ counts }: Done): readonly unknown[] {
  const client = counts.find(({ bytes_written }) => [3000, 500, 1].includes(bytes_written));
  return shares(
    counts
      .filter((one) => one !== client)
      .map(({ pid, bytes_read, bytes_written }) => {
        return { pid, direction: 'incoming', process_name: '', bytes_read, bytes_written };
      }),
  );
}

const CASES: readonly (Words & { readonly name: string })[] = [
  { name: 'handed over with half of the request unread', as: 'hand_over' },
  { name: 'handed over to a process that writes first', as: 'hand_over', writes_first: 1 },
  { name: 'written by two processes in turns', as: 'take_turns' },
  { name: 'polled by a process that gets nothing', as: 'look_on', by: 'poll' },
  { name: 'looked at by a process that takes nothing', as: 'look_on', by: 'peek' },
  { name: 'looked at before it is handed over', as: 'look_on', by: 'peek', before: 1 },
];

test('a connection of several processes', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t);
  const { sink, collector } = live;
  for (const { name, ...words } of CASES) {
    await t.test(name, { skip: noLengths(live) }, async (t) => {
      const done = await run(t, words);
      const view = (): unknown => shares(sink.views('tcp', done.port));
      await settles(() => collector.flush(), view, counted(done));
      const once = sink.total({ src_port: done.port }, ['tcp_established', 'tcp_closed']);
      assert.deepEqual(once, { tcp_established: 1, tcp_closed: 1 });
    });
  }
  await t.test('who moved nothing has no row', { skip: noLengths(live) }, async (t) => {
    const { port, counts } = await run(t, { as: 'look_on', by: 'peek', before: 1 });
    const heir = counts[0]!.pid;
    const view = (): unknown => sink.rows({ src_port: port }).map(({ pid }) => pid);
    await settles(() => collector.flush(), view, [heir]);
  });
});

test('more changes of owner than are told apart', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t);
  const { sink, collector } = live;
  const skip = noLengths(live) || lacks(live, 'tcp');
  if (skip) return t.skip(skip);
  const untold = (): number =>
    collector.ledger
      .rows()
      .filter(({ table }) => table === 'owner_changes_untold')
      .reduce((sum, { count }) => sum + count, 0);
  const { port } = await run(t, { as: 'take_turns', rounds: 100 });
  const view = (): unknown => sink.total({ src_port: port }, ['bytes_read', 'bytes_written']);
  await settles(() => collector.flush(), view, { bytes_read: 1, bytes_written: 110_000 });
  assert.ok(untold() > 0, 'all were told apart: the test shows nothing');
  assert.deepEqual(collector.ledger.imbalance(), []);
});
