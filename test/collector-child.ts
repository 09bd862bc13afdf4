// A collector in a process of its own, for tests that kill it. Its parent speaks to it by messages:
// it says `ready`, and answers `flush`, `settle` (all processes were looked at) and `stop` when they are done.

import { setTimeout as delay } from 'node:timers/promises';
import pino from 'pino';
import { Collector } from '../src/collector/collector.ts';
import { liveConfig } from './live.ts';

const [data_dir, pin_path, port, ring_bytes, more = '{}'] = process.argv.slice(2);
const own = { interval: 200, ring_bytes: Number(ring_bytes), ...JSON.parse(more) };

const collector = await Collector.start({
  config: liveConfig(data_dir!, pin_path!, own),
  log: pino({ level: process.env.SONDE_TEST_LOG ?? 'silent' }, pino.destination(2)),
  version: 'test',
  to: { intake: { host: '127.0.0.1', port: Number(port) } },
});

process.on('message', (asked) => void answer(String(asked)));
process.on('disconnect', () => process.exit(1)); // the test has died
const { taken_over, plan } = collector.kernel;
const variants = plan.sources.flatMap(({ parts }) => parts.map(({ variant }) => variant));
const claims = !variants.some((variant) => variant.endsWith('without atomics'));
process.send!({ said: 'ready', taken_over, claims });

async function answer(asked: string): Promise<void> {
  if (asked === 'flush') await collector.flush();
  while (asked === 'settle' && !collector.uprobes.settled) await delay(20);
  if (asked === 'stop') await collector.stop(5000);
  process.send!({ said: asked, taken_over, claims });
  if (asked === 'stop') process.exit(0);
}
