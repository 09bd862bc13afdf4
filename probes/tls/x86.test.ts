import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { cheapEntry, decodeX86, firstCall, isEmulated } from './x86.ts';

const skip = spawnSync('objdump', ['--version']).status !== 0 && 'needs objdump';
/** Beginnings of real functions. */
const SSL_READ = bytes(
  '4883ec18 64488b042528000000 4889442408 31c0 85d2 782f 4889e1 4863d2 e83dfeffff',
);
const SSL_READ_EX = bytes('4883ec08 e8c7fdffff 31d2 85c0');
const SSL_FREE = bytes('4885ff 0f8497030000 4155 b8ffffffff');
const SSL_HANDSHAKE = bytes('53 4883ec30 64488b042528000000');
const UBUNTU = bytes('f30f1efa 4157 4156 4155 4154');
const MOVES_ARGUMENTS = bytes('4889f7 4155 4154');
const CALLS_THROUGH_POINTER = bytes('4883ec08 488b4708 ff5060 4883c408 c3');

function bytes(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
}

test('the cheapest place that still has the arguments', () => {
  assert.equal(cheapEntry(SSL_READ), 22, 'js');
  assert.equal(cheapEntry(SSL_READ_EX), 4, 'call');
  assert.equal(cheapEntry(SSL_FREE), 3, 'je');
  assert.equal(cheapEntry(SSL_HANDSHAKE), 0, 'push');
  assert.equal(cheapEntry(UBUNTU), 4, 'push behind endbr64');
  assert.equal(cheapEntry(MOVES_ARGUMENTS), 0, 'the first byte: rdi is written');
  assert.equal(cheapEntry(new Uint8Array(0)), 0);
});

test('the first call of a function', () => {
  assert.equal(firstCall(SSL_READ), 30 + 5 - 0x1c3);
  assert.equal(firstCall(SSL_READ_EX), 4 + 5 - 0x239);
  assert.equal(firstCall(CALLS_THROUGH_POINTER), undefined);
  assert.equal(firstCall(SSL_READ.subarray(0, 20)), undefined, 'cut');
});

test('emulated instructions', () => {
  for (const hex of [
    '55',
    '4157',
    'e800000000',
    'eb05',
    '7405',
    '0f8400000000',
    '90',
    '6690',
    '0f1f4000',
  ]) {
    assert.ok(isEmulated(bytes(hex), 0), hex);
  }
  for (const hex of ['f30f1efa', '4883ec18', '4889e5', '31c0', 'c3', '488d0500000000', '0f', '']) {
    assert.ok(!isEmulated(bytes(hex), 0), hex);
  }
});

test('instructions of the C library are as long as objdump says', { skip }, () => {
  const libc = execFileSync('sh', ['-c', 'ldd /bin/true | grep -o "/[^ ]*libc[^ ]*"'])
    .toString()
    .trim();
  const size = { encoding: 'latin1', maxBuffer: 1 << 28 } as const;
  const text = execFileSync('objdump', ['-d', '-w', '-j', '.text', libc], size);
  let checked = 0;
  let unknown = 0;
  for (const line of text.split('\n').slice(0, 150_000)) {
    const [, hex, words] = /^\s+[0-9a-f]+:\t((?:[0-9a-f]{2} )+)\s*\t(.*)$/.exec(line) ?? [];
    if (hex === undefined || words === undefined || words.includes('(bad)')) continue;
    const code = bytes(`${hex}cccccccccccccccc`);
    const found = decodeX86(code, 0);
    checked += 1;
    if (found === undefined) {
      unknown += 1;
      assert.match(
        words,
        /^(?:\S+ )*[vp]\S+|^(?:crc32|movbe|sha|adc?x|aes|pcmp|k\w+|[a-z]+x |bzhi|andn|bls)/,
        line,
      );
    } else {
      assert.equal(found.length, hex.trim().split(' ').length, line);
    }
  }
  if (process.arch === 'x64') assert.ok(checked > 50_000 && unknown < checked / 5, `${checked}`);
});

test('any bytes give a length within bounds, or none; seed 20261126', () => {
  let seed = 20_261_126;
  for (let round = 0; round < 20_000; round += 1) {
    const code = Uint8Array.from({ length: round % 18 }, () => {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      return seed >> 16;
    });
    const found = decodeX86(code, 0);
    assert.ok(
      found === undefined || (found.length > 0 && found.length <= Math.min(15, code.length)),
    );
    cheapEntry(code);
    firstCall(code);
  }
});
