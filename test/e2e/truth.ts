// What the traffic tool counted against what the store has: the rows that must be there, and waiting until they are.

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { type Counts, talk, type Words } from '../traffic/traffic.ts';
import { ask, type Cleanup, PATIENCE_MS, type Place, type Row, until } from './sonde.ts';

export interface Talk {
  readonly server: readonly Counts[];
  readonly client: readonly Counts[];
  readonly port: number;
}

/** Rows of `netflow` that a talk must leave, summed: one for each process that had connections. */
export function expected(talks: readonly Talk[]): readonly Row[] {
  const rows = talks.flatMap(({ server, client, port }) => [
    ...busy(server).map((one) => view('incoming', port, 0, one)),
    ...busy(client).map((one) => view('outgoing', 0, port, one)),
  ]);
  return sorted(rows);
}

function busy(counts: readonly Counts[]): readonly Counts[] {
  return counts.filter(({ connections }) => connections > 0);
}

function view(direction: string, src_port: number, dst_port: number, counts: Counts): Row {
  const { pid, connections, bytes_read, bytes_written } = counts;
  const of = { direction, src_port, dst_port, pid, process_name: 'traffic' };
  const sums = { tcp_established: connections, tcp_closed: connections, bytes_read, bytes_written };
  return { ...of, ...sums };
}

function sorted(rows: readonly Row[]): readonly Row[] {
  const key = ({ direction, pid }: Row) => `${direction} ${pid}`;
  return [...rows].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

/** What the store has of these ports, after all that the kernel saw is stored. */
export async function stored(
  place: Place,
  talks: readonly Talk[],
  how?: readonly string[],
): Promise<readonly Row[]> {
  const ports = talks.map(({ port }) => port).join(', ');
  const sql = `SELECT direction, src_port, dst_port, pid, process_name,
    ${sumsOf()} FROM netflow
    WHERE transport = 'tcp' AND (src_port IN (${ports}) OR dst_port IN (${ports})) GROUP BY ALL`;
  return sorted(await ask(place, sql, how));
}

/**
 * The store's sums become the programs' own counts, and stay so: sums that pass by the right value are wrong. The last
 * ends of connections may come after their programs' ends, and after a crash the reducer may be away for a moment.
 */
export async function exact(
  place: Place,
  talks: readonly Talk[],
  how?: readonly string[],
): Promise<void> {
  const want = expected(talks);
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const wrong = await difference(place, talks, want, how);
    if (wrong === '') break;
    assert.ok(Date.now() < end, `still wrong: ${wrong}`);
    await delay(200);
  }
  assert.equal(await difference(place, talks, want, how), '', 'it was right and is no more');
}

/** What a busy machine may need until late ends of connections are in. */
const SETTLE_MS = 15_000;
const MEASURES = ['tcp_established', 'tcp_closed', 'bytes_read', 'bytes_written'] as const;

/**
 * As `exact`, for a collector that was away: where other programs of a busy machine filled the ring meanwhile, the ledger
 * says so, nothing is there twice, and what has no row of its own is in the overflow row of its direction.
 */
export async function exactOrFolded(place: Place, talks: readonly Talk[]): Promise<string> {
  const want = expected(talks);
  const answers = () =>
    ask(place, 'SELECT 1', []).then(
      () => true,
      () => false,
    );
  await until(answers, () => 'a reducer that answers');
  for (const end = Date.now() + SETTLE_MS; Date.now() < end; await delay(200)) {
    if ((await difference(place, talks, want, undefined)) === '') return 'exact';
  }
  const sql = `SELECT toFloat64(sum(count)) AS n FROM sonde_ledger
    WHERE stage = 'kernel' AND \`table\` = 'records' AND outcome = 'folded'`;
  const [folded] = await ask(place, sql);
  if (Number(folded?.n) === 0) await exact(place, talks); // no excuse: this fails
  const overflow = await ask(
    place,
    `SELECT direction, ${sumsOf()} FROM netflow WHERE family = '<other>' GROUP BY 1`,
  );
  const have = await stored(place, talks);
  for (const direction of ['incoming', 'outgoing']) {
    for (const name of MEASURES) {
      const total = (rows: readonly Row[]) =>
        rows.reduce((sum, row) => sum + (row.direction === direction ? Number(row[name]) : 0), 0);
      const missing = total(want) - total(have);
      const rest = total(overflow);
      assert.ok(missing >= 0, `${-missing} ${name} of ${direction} too many`);
      assert.ok(missing <= rest, `${missing} ${name} of ${direction} missing, ${rest} in overflow`);
    }
  }
  return `the ring was full: ${folded?.n} records folded`;
}

function sumsOf(): string {
  return MEASURES.map((name) => `toFloat64(sum(${name})) AS ${name}`).join(', ');
}

/** In words, not too many; empty: there is none. */
async function difference(
  place: Place,
  talks: readonly Talk[],
  want: readonly Row[],
  how: readonly string[] | undefined,
): Promise<string> {
  try {
    const have = new Set((await stored(place, talks, how)).map((row) => JSON.stringify(row)));
    const wanted = want.map((row) => JSON.stringify(row));
    const missing = wanted.filter((row) => !have.delete(row));
    if (missing.length + have.size === 0) return '';
    const first = [...missing.slice(0, 3), 'but there is', ...[...have].slice(0, 3)].join('\n');
    return `${missing.length} of ${want.length} rows are missing, ${have.size} too many:\n${first}`;
  } catch (error) {
    return String(error); // a role is being started again
  }
}

// Another run of these tests beside this one has ports of its own.
let last_port = 11_000 + ((process.pid * 97) % 20_000);

/** Below those that the kernel gives away, so that no other program of this machine is counted with ours. */
export function nextPort(): number {
  last_port += 1;
  return last_port;
}

/** So much that the ring holds what comes while a killed collector is away; what overflows it has a test of its own. */
const PAUSE_MS = 100;

/** One talk after another until told to stop; at least one. */
export class Load {
  readonly #t: Cleanup;
  readonly #words: Words;
  readonly #talks: Talk[] = [];
  readonly #done: Promise<void>;
  #stop = false;

  constructor(t: Cleanup, words: Words) {
    this.#words = words;
    this.#t = t;
    this.#done = this.#run();
    this.#done.catch(() => undefined); // told by end()
  }

  get count(): number {
    return this.#talks.length;
  }

  async end(): Promise<readonly Talk[]> {
    this.#stop = true;
    await this.#done;
    return this.#talks;
  }

  async #run(): Promise<void> {
    do {
      const port = nextPort();
      this.#talks.push(await talk(this.#t, 'tcp', { ...this.#words, port }, this.#words));
      await delay(PAUSE_MS);
    } while (!this.#stop);
  }
}
