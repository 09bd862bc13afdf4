// Run by crash.test.ts, to be killed: inserts batches one after another and says each number that the store confirmed.

import { writeSync } from 'node:fs';
import { netflow } from '../../probes/netflow.ts';
import { Store } from './client.ts';
import { flowBatch } from './testing.ts';

const [dir = '', rows = '', time_ms = '', last = ''] = process.argv.slice(2);
const store = await Store.open({ target: { dir }, tables: [netflow] });
const known = (await store.maxSeqs()).get('collector-1')?.get('netflow') ?? 0;
writeSync(1, `open ${known}\n`);
for (let seq = known + 1; seq <= Number(last); seq += 1) {
  const result = await store.insert(flowBatch(seq, Number(rows), Number(time_ms)));
  if (!result.ok) throw new Error(`${result.reason}: ${result.message}`);
  writeSync(1, `${seq}\n`);
}
await store.close();
