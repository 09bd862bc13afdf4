// Collectors that are killed at any moment: the programs stay in the kernel, and what they saw meanwhile comes with the next
// collector, once. The moments follow from a fixed seed; what they hit differs from run to run.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ask, hear, kill, type Said, startChild } from '../../test/child.ts';
import { type FlowRow, liveFolders, NO_LIVE, Sink, settles } from '../../test/live.ts';
import { type Cleanup, Traffic } from '../../test/traffic/traffic.ts';

const MANY = 24_000;
const KILLS = 8;
/** Holds all that can come while no collector lives. */
const RING_BYTES = 64 << 20;
/** The load fills a quarter of it, and not the whole while no collector lives. */
const RING_BYTES_SMALL = 8 << 20;
const SEED = 20_260_117;

interface Place {
  readonly data_dir: string;
  readonly pin_path: string;
  readonly port: number;
  /** Of the configuration. */
  readonly more?: Readonly<Record<string, unknown>>;
}

class Child {
  readonly #process: ChildProcess;

  constructor(t: Cleanup, { data_dir, pin_path, port, more = {} }: Place) {
    const words = [data_dir, pin_path, String(port), String(RING_BYTES), JSON.stringify(more)];
    this.#process = startChild(t, words);
  }

  hear(): Promise<Said> {
    return hear(this.#process);
  }

  ask(what: 'flush' | 'stop'): Promise<void> {
    return ask(this.#process, what);
  }

  kill(): Promise<void> {
    return kill(this.#process);
  }
}

/** Park and Miller's generator: the same moments in each run. */
function moments(seed: number): (max_ms: number) => number {
  let state = seed;
  return (max_ms) => {
    state = (state * 48_271) % 0x7fffffff;
    return state % max_ms;
  };
}

async function place(t: Cleanup): Promise<{ sink: Sink; at: Place }> {
  const sink = await Sink.listen();
  t.after(() => sink.close());
  const at = { ...liveFolders(t), port: sink.port };
  return { sink, at };
}

function withoutBegins({ tcp_established: _, ...row }: FlowRow): FlowRow {
  return row;
}

/** Connections between two processes, of which both ends must be told to the last byte. */
class Load {
  readonly port: number;
  readonly #server: Traffic;
  readonly #client: Traffic;
  readonly #ended: Promise<unknown>;

  static async start(t: Cleanup): Promise<Load> {
    const server = await Traffic.start(t, 'server', { connections: MANY });
    const port = await server.port();
    const client = await Traffic.start(t, 'client', { port, connections: MANY });
    return new Load(port, server, client);
  }

  private constructor(port: number, server: Traffic, client: Traffic) {
    this.port = port;
    this.#server = server;
    this.#client = client;
    this.#ended = Promise.all([server.counts(), client.counts()]);
  }

  /** `claims`: also that no begin of a connection is told twice. */
  async isTold(child: Child, sink: Sink, claims = true): Promise<void> {
    await this.#ended;
    const { port } = this;
    const rows = [
      { direction: 'incoming', src_port: port, dst_port: 0, pid: this.#server.pid },
      { direction: 'outgoing', src_port: 0, dst_port: port, pid: this.#client.pid },
    ];
    const sums = { process_name: 'traffic', tcp_established: MANY, tcp_closed: MANY };
    const expected = rows.map((row, i) => ({
      ...{ ...row, ...sums },
      bytes_read: (i === 0 ? 100 : 1000) * MANY,
      bytes_written: (i === 0 ? 1000 : 100) * MANY,
    }));
    const view = (): unknown => sink.views('tcp', port).map(claims ? (row) => row : withoutBegins);
    const rows_told = claims ? expected : expected.map(withoutBegins);
    await settles(() => child.ask('flush'), view, rows_told);
  }
}

test(`killed ${KILLS} times under load, seed ${SEED}`, { skip: NO_LIVE }, async (t) => {
  const { sink, at } = await place(t);
  const next = moments(SEED);
  let child = new Child(t, at);
  assert.equal((await child.hear()).taken_over, false);
  const load = await Load.start(t);
  for (let kill = 0; kill < KILLS; kill += 1) {
    await delay(next(kill % 2 === 0 ? 1500 : 300)); // some come before it is ready
    await child.kill();
    child = new Child(t, at);
  }
  const { taken_over, claims } = await child.hear();
  assert.equal(taken_over, true);
  await load.isTold(child, sink, claims);
  await child.ask('stop');
  assert.equal(existsSync(at.pin_path), false);
});

test('killed with rows of an interval that was not over', { skip: NO_LIVE }, async (t) => {
  const { sink, at: usual } = await place(t);
  const at = { ...usual, more: { ring_bytes: RING_BYTES_SMALL, interval: 600_000 } };
  const open = join(at.data_dir, 'spool/open');
  let child = new Child(t, at);
  await child.hear();
  const load = await Load.start(t);
  for (let tries = 0; !existsSync(open); tries += 1) {
    assert.ok(tries < 6000, 'nothing was kept beside the log');
    await delay(10);
  }
  for (let kill = 0; kill < 2; kill += 1) {
    await child.kill();
    child = new Child(t, at);
    assert.equal((await child.hear()).taken_over, true);
  }
  await load.isTold(child, sink);
  assert.equal(existsSync(open), false);
  await child.ask('stop');
});

test('killed while it starts for the first time', { skip: NO_LIVE }, async (t) => {
  const { at } = await place(t);
  const next = moments(SEED + 1);
  for (let i = 0; i < 5; i += 1) {
    const child = new Child(t, at);
    await delay(200 + next(600));
    await child.kill();
  }
  const last = new Child(t, at);
  assert.equal((await last.hear()).said, 'ready');
  await last.ask('stop');
  assert.equal(existsSync(at.pin_path), false);
});
