import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { OperatorError } from './error.ts';
import { Spool, type SpoolInput } from './spool.ts';
import type { Lost } from './spool_loss.ts';
import { SLOT_BYTES, StateFile } from './spool_state.ts';

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'spool-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function entry(table: string, fill: number, bytes = 100): SpoolInput {
  return { table, payload: new Uint8Array(bytes).fill(fill), rows: fill, counts: { seen: fill } };
}

/** Takes down what is lost; the log says nothing of it. */
function into(lost: Lost[]): (some: readonly Lost[]) => undefined {
  return (some) => void lost.push(...some);
}

const seqsOf = (spool: Spool) => [...spool.pending()].map((one) => one.seq);
const logFiles = (dir: string) => readdirSync(dir).filter((name) => name.endsWith('.log'));

test('entries come back in order with their bytes, and sequences go on after a restart', (t) => {
  const dir = folder(t);
  const first = Spool.open(dir, { bytes_max: 1 << 20 });
  assert.deepEqual(first.append(entry('a', 1)), { ok: true, seqs: [1] });
  const group = first.appendGroup([entry('a', 2), entry('b', 3)], { ring_id: 'r', cursor: 77 });
  assert.deepEqual(group, { ok: true, seqs: [2, 3] });
  first.acknowledge(1);
  const id = first.spool_id;
  first.close();
  const second = Spool.open(dir, { bytes_max: 1 << 20 });
  t.after(() => second.close());
  const found = [...second.pending()];
  assert.deepEqual(
    found.map(({ seq, table, rows, counts }) => ({ seq, table, rows, counts })),
    [
      { seq: 2, table: 'a', rows: 2, counts: { seen: 2 } },
      { seq: 3, table: 'b', rows: 3, counts: { seen: 3 } },
    ],
  );
  assert.deepEqual(Buffer.from(found[1].payload), Buffer.alloc(100, 3));
  assert.deepEqual(second.last(), { seq: 3, ring: { ring_id: 'r', cursor: 77 } });
  assert.deepEqual(second.append(entry('a', 4)), { ok: true, seqs: [4] });
  assert.equal(second.spool_id, id);
});

test('the last entry is known after everything was acknowledged and removed', (t) => {
  const dir = folder(t);
  let spool = Spool.open(dir, { bytes_max: 1 << 20, segment_bytes: 16384 });
  for (let turn = 0; turn < 10; turn++) {
    spool.append({ ...entry('a', turn, 9000), ring: { ring_id: 'r', cursor: turn } });
  }
  spool.acknowledge(10);
  assert.equal(spool.bytes(), 0);
  spool.close();
  for (let restart = 0; restart < 2; restart++) {
    spool = Spool.open(dir, { bytes_max: 1 << 20 });
    assert.deepEqual(spool.last(), { seq: 10, ring: { ring_id: 'r', cursor: 9 } });
    assert.deepEqual(seqsOf(spool), []);
    spool.close();
  }
});

test('a torn group is dropped as a whole, wherever it was torn', (t) => {
  const dir = folder(t);
  const spool = Spool.open(dir, { bytes_max: 1 << 20 });
  spool.append({ ...entry('a', 1, 10), ring: { ring_id: 'r', cursor: 1 } });
  const path = join(dir, logFiles(dir)[0]);
  const before = statSync(path).size;
  const group = [entry('a', 2, 10), entry('b', 3, 10)];
  spool.appendGroup(group, { ring_id: 'r', cursor: 2 });
  const after = statSync(path).size;
  spool.close();
  const state = readFileSync(join(dir, 'state'));
  const log = readFileSync(path);
  for (let length = before; length < after; length += 3) {
    const torn = join(dir, 'torn');
    mkdirSync(torn);
    writeFileSync(join(torn, 'state'), state);
    writeFileSync(join(torn, '000000000001.log'), log.subarray(0, length));
    const reopened = Spool.open(torn, { bytes_max: 1 << 20 });
    assert.deepEqual(seqsOf(reopened), [1]);
    assert.equal(reopened.stats.torn_records, length === before ? 0 : 1);
    assert.equal(reopened.stats.torn_bytes, length - before);
    assert.equal(statSync(join(torn, '000000000001.log')).size, before);
    const next = reopened.append(entry('a', 4));
    assert.ok(next.ok && next.seqs[0] > 3, 'a sequence that was on disk was given twice');
    reopened.close();
    rmSync(torn, { recursive: true });
  }
});

test('a flipped bit costs its record and what follows in the file, and is counted', (t) => {
  const dir = folder(t);
  const lost: Lost[] = [];
  const spool = Spool.open(dir, { bytes_max: 1 << 20, on_damage: (one) => lost.push(one) });
  for (let turn = 1; turn <= 3; turn++) spool.append(entry('a', turn));
  const path = join(dir, logFiles(dir)[0]);
  const bytes = readFileSync(path);
  const middle = Math.floor(bytes.length / 2);
  bytes[middle] ^= 1;
  writeFileSync(path, bytes);
  // While it runs: the damaged one is skipped and reported, once.
  assert.deepEqual(seqsOf(spool), [1, 3]);
  assert.deepEqual(seqsOf(spool), [1, 3]);
  const { damaged_records, dropped_rows } = spool.stats;
  assert.deepEqual({ damaged_records, dropped_rows }, { damaged_records: 1, dropped_rows: 2 });
  assert.deepEqual(lost, [{ table: 'a', batches: 1, rows: 2, rows_sent: 0, counts: { seen: 2 } }]);
  spool.close();
});

test('a state with the former, smaller slots is read', (t) => {
  const dir = folder(t);
  const path = join(dir, 'state');
  const spool = Spool.open(dir, { bytes_max: 1 << 20 });
  const ring = { ring_id: 'r', cursor: 5 };
  spool.append({ ...entry('a', 1), ring });
  spool.acknowledge(1);
  spool.close();
  const state = readFileSync(path);
  const slots = [0, 1].map((slot) => state.subarray(slot * SLOT_BYTES, slot * SLOT_BYTES + 1024));
  writeFileSync(path, Buffer.concat(slots));
  for (const file of logFiles(dir)) rmSync(join(dir, file));
  const reopened = Spool.open(dir, { bytes_max: 1 << 20 });
  assert.equal(reopened.spool_id, spool.spool_id);
  assert.equal(reopened.acknowledged(), 1);
  assert.deepEqual(reopened.last(), { seq: 1, ring });
  reopened.close();
  assert.equal(statSync(path).size, 2 * SLOT_BYTES);
});

test('damage to both state slots makes a new identity, damage to one changes nothing', (t) => {
  const dir = folder(t);
  const spool = Spool.open(dir, { bytes_max: 1 << 20 });
  for (let turn = 1; turn <= 3; turn++) spool.append(entry('a', turn));
  spool.acknowledge(1);
  spool.acknowledge(2);
  const id = spool.spool_id;
  spool.close();
  const state = readFileSync(join(dir, 'state'));
  for (const slots of [[0], [1], [0, 1]]) {
    const copy = folder(t);
    cpSync(dir, copy, { recursive: true });
    const damaged = Buffer.from(state);
    for (const slot of slots) damaged[slot * SLOT_BYTES + 20] ^= 0xff;
    writeFileSync(join(copy, 'state'), damaged);
    const reopened = Spool.open(copy, { bytes_max: 1 << 20 });
    assert.equal(reopened.spool_id === id, slots.length === 1);
    assert.equal(seqsOf(reopened).at(-1), 3);
    const next = reopened.append(entry('a', 4));
    assert.ok(next.ok && next.seqs[0] > 3);
    reopened.close();
  }
});

test('the oldest go first, and what was lost adds up by table', (t) => {
  const dir = folder(t);
  const lost: Lost[] = [];
  const options = { bytes_max: 65536, segment_bytes: 16384 };
  const spool = Spool.open(dir, { ...options, notice: into(lost) });
  t.after(() => spool.close());
  let rows = 0;
  for (let turn = 1; turn <= 100; turn++) {
    const fill = turn % 50;
    const result = spool.appendGroup([entry('a', fill, 2000), entry('b', 1, 500)], undefined);
    assert.equal(result.ok, true);
    rows += fill + 1;
    assert.ok(spool.bytes() <= 65536, `${spool.bytes()} bytes on disk`);
    if (turn === 10) spool.acknowledge(6);
  }
  const stored = spool.acknowledged();
  const acknowledged_rows = 1 + 1 + 2 + 1 + 3 + 1;
  const pending = [...spool.pending()];
  const pending_rows = pending.reduce((sum, one) => sum + one.rows, 0);
  const lost_rows = lost.reduce((sum, one) => sum + one.rows, 0);
  const lost_seen = lost.reduce((sum, one) => sum + one.counts.seen, 0);
  assert.equal(stored, 6);
  assert.equal(acknowledged_rows + pending_rows + lost_rows, rows);
  assert.equal(lost_seen, lost_rows);
  assert.equal(spool.stats.dropped_rows, lost_rows);
  assert.equal(spool.stats.dropped_batches + pending.length + 6, 200);
  assert.equal(pending.at(-1)?.seq, 200);
  assert.deepEqual(new Set(lost.map((one) => one.table)), new Set(['a', 'b']));
});

test('what was on the wire when it was dropped is told apart', (t) => {
  const lost: Lost[] = [];
  const options = { bytes_max: 65536, segment_bytes: 16384 };
  const spool = Spool.open(folder(t), { ...options, notice: into(lost) });
  t.after(() => spool.close());
  for (let turn = 1; turn <= 4; turn++) spool.append(entry('a', 1, 15000));
  spool.noteSent(1);
  spool.append(entry('a', 1, 15000));
  spool.append(entry('a', 1, 15000));
  assert.deepEqual(
    lost.map(({ rows, rows_sent }) => ({ rows, rows_sent })),
    [
      { rows: 1, rows_sent: 1 },
      { rows: 1, rows_sent: 0 },
    ],
  );
});

test('a second process is refused, a stale lock is taken over', (t) => {
  const dir = folder(t);
  const spool = Spool.open(dir, { bytes_max: 1 << 20 });
  const inUse = (error: unknown) => error instanceof OperatorError && error.code === 'spool_in_use';
  assert.throws(() => Spool.open(dir, { bytes_max: 1 << 20 }), inUse);
  const live = readFileSync(join(dir, 'lock'), 'utf8');
  spool.close();
  // The pid lives, but as another process than the one that took the lock.
  const [pid, start, boot] = live.trim().split(' ');
  writeFileSync(join(dir, 'lock'), `${pid} ${Number(start) - 1} ${boot}\n`);
  Spool.open(dir, { bytes_max: 1 << 20 }).close();
  writeFileSync(join(dir, 'lock'), '');
  Spool.open(dir, { bytes_max: 1 << 20 }).close();
  assert.deepEqual(
    readdirSync(dir).filter((name) => name.startsWith('lock')),
    [],
  );
});

test('a folder that cannot be used is the operator’s error', (t) => {
  const file = join(folder(t), 'file');
  writeFileSync(file, '');
  const unusable = (error: unknown) =>
    error instanceof OperatorError && error.code === 'spool_unusable';
  assert.throws(() => Spool.open(file, { bytes_max: 1 << 20 }), unusable);
});

test('a folder on a full disk: the cure is to make room', (t) => {
  const dir = folder(t);
  if (process.getuid?.() !== 0) return t.skip('mounting a tmpfs needs root');
  const options = ['-t', 'tmpfs', '-o', 'size=64k', 'spool-test', dir];
  if (spawnSync('mount', options).status !== 0) return t.skip('mount -t tmpfs is refused here');
  try {
    const fill = () => writeFileSync(join(dir, 'ballast'), Buffer.alloc(1 << 17));
    assert.throws(fill, { code: 'ENOSPC' });
    const open = () => Spool.open(join(dir, 'spool'), { bytes_max: 1 << 20 });
    assert.throws(open, { code: 'spool_unusable', message: /: ENOSPC; make room on its disk$/ });
  } finally {
    spawnSync('umount', [dir]);
  }
});

/** The payload that the child below writes for a sequence: the parent recomputes it. */
function payloadOf(seq: number): Buffer {
  const block = createHash('sha256').update(String(seq)).digest();
  return Buffer.concat(Array.from({ length: 1 + (seq % 40) }, () => block));
}

const child_program = `
import { writeSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { Spool } from ${JSON.stringify(new URL('./spool.ts', import.meta.url).href)};
${payloadOf.toString().replace('seq: number', 'seq').replace('): Buffer', ')')}
const spool = Spool.open(process.argv[1], { bytes_max: 64 << 20, segment_bytes: 16384 });
let seq = spool.last()?.seq ?? 0;
for (let turn = 0; turn < 100000; turn++) {
  const size = 1 + (turn % 3);
  const entries = [];
  for (let one = 1; one <= size; one++) {
    const payload = payloadOf(seq + one);
    entries.push({ table: 't' + one, payload, rows: one, counts: {} });
  }
  const result = spool.appendGroup(entries, { ring_id: 'r', cursor: seq + size });
  if (!result.ok) throw new Error(result.reason);
  if (result.seqs[0] !== seq + 1) throw new Error('sequence ' + result.seqs[0] + ' after ' + seq);
  seq = result.seqs.at(-1);
  if (turn % 7 === 0 && seq > 10) spool.acknowledge(seq - 10);
  writeSync(1, 'appended ' + seq + ' ' + spool.acknowledged() + '\\n');
}
`;

/** Runs the child until it has appended `lines` times, kills it, and tells the last append it reported. */
async function killAfter(dir: string, lines: number): Promise<{ seq: number; acked: number }> {
  const args = ['--input-type=module-typescript', '-e', child_program, dir];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let last = { seq: 0, acked: 0 };
  let seen = 0;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  for await (const line of createInterface({ input: child.stdout })) {
    const [, seq, acked] = line.split(' ').map(Number);
    last = { seq, acked };
    if (++seen === lines) child.kill('SIGKILL');
  }
  await exited;
  assert.ok(seen >= lines, `the child ended after ${seen} of ${lines} appends`);
  return last;
}

test('kill -9 between and within appends loses nothing that was reported', async (t) => {
  const dir = folder(t);
  let random = 20261121;
  let acked_before = 0;
  for (let round = 0; round < 8; round++) {
    random = (random * 1103515245 + 12345) % 2147483648;
    const told = await killAfter(dir, 5 + (random % 200));
    const spool = Spool.open(dir, { bytes_max: 64 << 20, segment_bytes: 16384 });
    const last = spool.last();
    assert.ok(last && last.seq >= told.seq, `${last?.seq} on disk, ${told.seq} reported`);
    assert.deepEqual(last.ring, { ring_id: 'r', cursor: last.seq });
    assert.ok(spool.acknowledged() >= told.acked && told.acked >= acked_before);
    let expected = spool.acknowledged();
    for (const one of spool.pending()) {
      assert.equal(one.seq, ++expected);
      assert.deepEqual(Buffer.from(one.payload), payloadOf(one.seq));
    }
    assert.equal(expected, last.seq);
    acked_before = spool.acknowledged();
    spool.close();
  }
});

test('a full disk is a value, and the log goes on when space returns', (t) => {
  const dir = folder(t);
  const options = ['-t', 'tmpfs', '-o', 'size=512k', 'spool-test', dir];
  if (process.getuid?.() !== 0) return t.skip('mounting a tmpfs needs root');
  if (spawnSync('mount', options).status !== 0) return t.skip('mount -t tmpfs is refused here');
  let spool = Spool.open(dir, { bytes_max: 64 << 20, segment_bytes: 65536 });
  try {
    const stored: number[] = [];
    let refused: ReturnType<Spool['append']> | undefined;
    for (let turn = 0; turn < 100 && !refused; turn++) {
      const ring = { ring_id: 'r', cursor: turn };
      const result = spool.appendGroup([entry('a', 1, 9001), entry('b', 2, 4003)], ring);
      if (result.ok) stored.push(...result.seqs);
      else refused = result;
    }
    assert.ok(refused && !refused.ok, 'the disk never became full');
    const next = (stored.at(-1) ?? 0) + 1;
    assert.deepEqual(refused, { ok: false, reason: 'ENOSPC', seqs: [next, next + 1] });
    assert.equal(spool.stats.failed.ENOSPC, 1);
    assert.deepEqual(seqsOf(spool), stored);
    // The batches went from memory under these sequences; the ring's position is noted on the full disk.
    assert.equal(spool.noteRing({ ring_id: 'r', cursor: 555 }).ok, true);
    spool.close();
    spool = Spool.open(dir, { bytes_max: 64 << 20, segment_bytes: 65536 });
    assert.equal(spool.stats.torn_records, 0);
    assert.deepEqual(seqsOf(spool), stored);
    assert.deepEqual(spool.last(), { seq: next + 1, ring: { ring_id: 'r', cursor: 555 } });
    spool.acknowledge(stored[20]);
    const again = spool.append(entry('a', 3, 9001));
    assert.deepEqual(again, { ok: true, seqs: [next + 2] });
    assert.deepEqual(seqsOf(spool), [...stored.slice(21), next + 2]);
  } finally {
    spool.close();
    spawnSync('umount', [dir]);
  }
});

test('after a reboot sequences skip what a power loss may have taken', (t) => {
  const dir = folder(t);
  const spool = Spool.open(dir, { bytes_max: 1 << 20 });
  for (let turn = 1; turn <= 3; turn++) spool.append(entry('a', turn));
  spool.close();
  const state = new StateFile(join(dir, 'state'));
  assert.ok(state.found);
  state.write({ ...state.found, boot: 'another' }, false);
  state.close();
  truncateSync(join(dir, logFiles(dir)[0]), 0);
  const again = Spool.open(dir, { bytes_max: 1 << 20 });
  t.after(() => again.close());
  const next = again.append(entry('a', 4));
  assert.ok(next.ok && next.seqs[0] > 1_000_000);
});
