import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isStringColumn } from '../../src/table/columns.ts';
import { DomainCache } from '../../src/table/domains.ts';
import { Fold } from '../../src/table/fold.ts';
import type { CodeFile, DecodeContext, UserPlace } from '../../src/table/probe.ts';
import { probeOptions } from '../../src/table/testing.ts';
import { bash_flag, bash_record } from '../layout.gen.ts';
import { BashDecoder, bash, bash_table } from './bash.ts';

const OWNER = {
  process_name: 'bash',
  process_executable_path: '/bin/bash',
  cgroup_path: '/a',
  container_id: 'c1',
};

interface Made {
  readonly decoder: BashDecoder;
  readonly fold: Fold;
  readonly asked: [number, UserPlace][];
  readonly notes: string[];
}

function made(redact: readonly string[] = []): Made {
  const fold = new Fold(bash_table);
  const asked: [number, UserPlace][] = [];
  const notes: string[] = [];
  const context: DecodeContext = {
    fold: () => fold,
    owner: () => OWNER,
    user: (uid, place) => {
      asked.push([uid, place]);
      return 'ada';
    },
    options: { ...probeOptions, bash: { redact } },
    domains: new DomainCache(1),
    note: (what, count) => notes.push(`${what} ${count}`),
    dropped: () => assert.fail('nothing is dropped'),
  };
  return { decoder: new BashDecoder(context), fold, asked, notes };
}

/** Each field differs from its neighbours. */
function record(line: Buffer, flags = 0, length = line.length): Buffer {
  const bytes = Buffer.alloc(8 + bash_record.SIZE, 0xee);
  const at = 8;
  bytes.writeUInt32LE(flags, at + bash_record.bash_head_flags);
  bytes.writeBigUInt64LE(11n, at + bash_record.bash_owner_start_ns);
  bytes.writeBigUInt64LE(12n, at + bash_record.bash_owner_cgroup_id);
  bytes.writeUInt32LE(13, at + bash_record.bash_owner_tgid);
  bytes.writeUInt32LE(14, at + bash_record.bash_owner_uid);
  bytes.writeBigUInt64LE(process.hrtime.bigint(), at + bash_record.bash_at_ns);
  bytes.writeBigUInt64LE(16n, at + bash_record.bash_root_ino);
  bytes.writeUInt32LE(17, at + bash_record.bash_root_dev);
  bytes.writeUInt32LE(length, at + bash_record.bash_length);
  bytes.write('pts18\0', at + bash_record.bash_tty);
  line.copy(bytes, at + bash_record.line);
  return bytes;
}

function rows(fold: Fold): readonly (readonly unknown[])[] {
  const batch = fold.close(1);
  if (batch === undefined) return [];
  return Array.from({ length: batch.rows }, (_, row) =>
    batch.dimensions.map((column) =>
      isStringColumn(column) ? column.dictionary[column.ids[row]!] : column.values[row],
    ),
  );
}

const NOW_MS = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

test('a record becomes a row', () => {
  const { decoder, fold, asked } = made();
  decoder.over(record(Buffer.from('ls -l é'), bash_flag.BASH_TRUNCATED));
  assert.ok(decoder.decode(8, bash_record.SIZE, NOW_MS + 5000));
  const [row] = rows(fold);
  const message = String(row![3]);
  assert.match(message, /^2026-01-02T03:04:\d\d\.\d{3}Z pid:13 user:ada cmd:ls -l é$/);
  assert.deepEqual(row, [13, 'ada', 'ls -l é', message, 'pts/18', 1, 14, 12, '/a', 'c1']);
  assert.deepEqual(asked, [[14, { pid: 13, root_dev: 17, root_ino: 16 }]]);
});

test('what is redacted is nowhere in the row', () => {
  const { decoder, fold } = made(['(?<=token=)\\w+', 'secret']);
  decoder.over(record(Buffer.from('curl -d token=abc123 secret secret')));
  assert.ok(decoder.decode(8, bash_record.SIZE, NOW_MS));
  const [row] = rows(fold);
  assert.equal(row![2], 'curl -d token=<redacted> <redacted> <redacted>');
  assert.ok(!/abc123|secret/.test(JSON.stringify(row)));
});

test('blank lines are noted, malformed records refused, odd bytes kept as they can be', () => {
  const { decoder, fold, notes } = made();
  decoder.over(record(Buffer.from('  \t ')));
  assert.ok(decoder.decode(8, bash_record.SIZE, NOW_MS));
  assert.deepEqual(notes, ['bash_blank_lines 1']);
  decoder.over(record(Buffer.from('x'), 0, bash_record.line_length + 1));
  assert.equal(decoder.decode(8, bash_record.SIZE, NOW_MS), false);
  assert.equal(decoder.decode(8, bash_record.line - 1, NOW_MS), false);
  decoder.over(record(Buffer.from([0x61, 0xff, 0x1b, 0x62])));
  assert.ok(decoder.decode(8, bash_record.SIZE, NOW_MS));
  assert.deepEqual(
    rows(fold).map((row) => row[2]),
    ['a\ufffd\u001bb'],
  );
});

/** With the calls of readline at these offsets, and a table of symbols. */
function fileWith(calls: readonly number[], symbols: Readonly<Record<string, number>>): CodeFile {
  const code = Buffer.alloc(4096);
  for (const at of calls) {
    code[at] = 0xe8;
    code.writeInt32LE(symbols.readline! - at - 5, at + 1);
  }
  return {
    machine: 'x64',
    code: [{ offset: 0, size: code.length }],
    symbols: (names) =>
      new Map(
        names
          .filter((name) => name in symbols)
          .map((name) => [name, { offset: symbols[name]!, size: 1 }]),
      ),
    section: () => undefined,
    read: (offset, length) => code.subarray(offset, offset + length),
  };
}

test('what the builtin read asks for is no command', () => {
  const places = (calls: readonly number[], symbols: Readonly<Record<string, number>>) => {
    const found = bash.uprobes![0]!.places(fileWith(calls, { readline: 4000, ...symbols }));
    assert.ok(typeof found !== 'string');
    return found.map(({ offset, ret }) => (ret === true ? -offset : offset));
  };
  const both = { yyparse: 1000, read_builtin: 2000 };
  assert.deepEqual(places([900, 1990, 2300], both), [905]);
  assert.deepEqual(places([900, 2300], { yyparse: 1000 }), [905, 2305]);
  assert.deepEqual(places([2300], both), [2305]);
  assert.deepEqual(places([], both), [-4000]);
});

test('a bash without its own readline: the shared one, or it is said', () => {
  const [source] = bash.uprobes!;
  const file = (names: string | undefined): CodeFile => ({
    machine: 'x64',
    code: [],
    symbols: () => new Map(),
    section: (name) =>
      names === undefined || name !== '.dynstr' ? undefined : { offset: 0, size: names.length },
    read: () => Buffer.from(names ?? ''),
  });
  assert.deepEqual(source!.places(file('\0libreadline.so.8\0libc.so.6\0')), []);
  assert.match(String(source!.places(file('\0libc.so.6\0'))), /no symbol readline/);
  assert.match(String(source!.places(file(undefined))), /no symbol readline/);
});
