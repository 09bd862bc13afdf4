import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tableFromArrays, tableFromIPC, tableToIPC } from 'apache-arrow';
import fc from 'fast-check';
import {
  action,
  action_type,
  flight_data,
  flight_descriptor,
  flight_info,
  flight_service,
  handshake,
  ticket,
} from './flight.ts';
import { encapsulate, joinStream, messageHead, splitStream } from './ipc.ts';
import { ProtoReader, ProtoWriter } from './protobuf.ts';

const seeded = { seed: 20261121, numRuns: 500 };
const bytes = fc.uint8Array({ maxLength: 200 });
/** Bytes as hex, so that a Buffer and a Uint8Array with the same bytes are equal. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
}

test('every message reads back as it was written', () => {
  const descriptor = fc.record({ path: fc.array(fc.string(), { maxLength: 5 }), command: bytes });
  const data = fc.record({
    descriptor: fc.option(descriptor, { nil: undefined }),
    data_header: bytes,
    app_metadata: bytes,
    data_body: bytes,
  });
  const counts = fc.oneof(fc.constant(-1), fc.maxSafeNat());
  const info = fc.record({
    schema: bytes,
    descriptor: fc.option(descriptor, { nil: undefined }),
    tickets: fc.array(bytes, { maxLength: 3 }),
    total_records: counts,
    total_bytes: counts,
  });
  const shakes = fc.record({ protocol_version: fc.maxSafeNat(), payload: bytes });
  const actions = fc.record({ type: fc.string(), body: bytes });
  const types = fc.record({ type: fc.string(), description: fc.string() });
  function same<T>(codec: { encode(value: T): Buffer; decode(bytes: Uint8Array): unknown }) {
    return (value: T) =>
      assert.deepEqual(plain(codec.decode(codec.encode(value))), plain({ ok: true, value }));
  }
  fc.assert(fc.property(descriptor, same(flight_descriptor)), seeded);
  fc.assert(fc.property(data, same(flight_data)), seeded);
  fc.assert(fc.property(info, same(flight_info)), seeded);
  fc.assert(fc.property(shakes, same(handshake)), seeded);
  fc.assert(fc.property(actions, same(action)), seeded);
  fc.assert(fc.property(types, same(action_type)), seeded);
  fc.assert(fc.property(bytes, same(ticket)), seeded);
});

test('the bytes are those of the protobuf encoding', () => {
  // By hand from the encoding's documentation; data_body has field 1000: tag 8002 = c2 3e.
  const encoded = flight_data.encode({
    descriptor: { path: ['ab'], command: new Uint8Array(0) },
    data_header: Uint8Array.of(1, 2),
    app_metadata: Uint8Array.of(3),
    data_body: Uint8Array.of(4, 5, 6),
  });
  assert.equal(encoded.toString('hex'), '0a0608011a02616212020102' + '1a0103c23e03040506');
  const negative = new ProtoWriter().integer(4, -1).finish();
  assert.equal(negative.toString('hex'), '20ffffffffffffffffff01');
});

test('unknown fields are passed over, whatever their wire type', () => {
  const unknown = ['a00101', 'a9010102030405060708', 'b50101020304', 'ba01020304'];
  const encoded = Buffer.concat([
    ...unknown.map((field) => Buffer.from(field, 'hex')),
    ticket.encode(Uint8Array.of(9)),
  ]);
  assert.deepEqual(plain(ticket.decode(encoded)), { ok: true, value: '09' });
  // A known field of a wrong wire type is malformed.
  assert.equal(ticket.decode(Buffer.from('0801', 'hex')).ok, false);
});

test('any bytes are either a message or malformed: no throw, no endless walk', () => {
  const codecs = [flight_descriptor, flight_data, flight_info, handshake, action, ticket];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (input) => {
      for (const codec of codecs) {
        const decoded = codec.decode(input);
        assert.equal(typeof decoded.ok, 'boolean');
      }
      const reader = new ProtoReader(input);
      let fields = 0;
      while (reader.next()) fields++;
      assert.ok(fields <= input.length);
    }),
    { seed: 4711, numRuns: 5000 },
  );
});

test('a truncated message is malformed or shorter, never longer', () => {
  const whole = flight_data.encode({
    descriptor: { path: ['table'], command: new Uint8Array(0) },
    data_header: new Uint8Array(50).fill(1),
    app_metadata: new Uint8Array(50).fill(2),
    data_body: new Uint8Array(50).fill(3),
  });
  for (let length = 0; length < whole.length; length++) {
    const decoded = flight_data.decode(whole.subarray(0, length));
    if (decoded.ok) assert.equal(decoded.value.data_body.length, 0);
  }
});

test('the service has all methods of Flight under their paths', () => {
  const methods = Object.entries(flight_service);
  assert.equal(methods.length, 10);
  for (const [name, { path }] of methods) {
    assert.equal(path, `/arrow.flight.protocol.FlightService/${name}`);
  }
});

const arrow_table = tableFromArrays({
  n: Int32Array.of(5, 6, 7),
  name: ['x', 'y', 'x'],
});

test('an IPC stream split into messages and joined again is the same table', () => {
  const stream = tableToIPC(arrow_table, 'stream');
  const split = splitStream(stream);
  assert.ok(split.ok);
  const kinds = split.value.messages.map((one) => messageHead(one.data_header)?.kind);
  assert.deepEqual(kinds, ['dictionary', 'record']);
  const last = split.value.messages.at(-1);
  assert.equal(last && messageHead(last.data_header)?.rows, 3);
  const again = tableFromIPC(joinStream(split.value));
  assert.deepEqual(again.toArray().map(String), arrow_table.toArray().map(String));
  assert.equal(encapsulate(split.value.schema).readUInt32LE(0), 0xffffffff);
});

test('splitting any damaged stream is a value', () => {
  const stream = tableToIPC(arrow_table, 'stream');
  fc.assert(
    fc.property(fc.nat(stream.length - 1), fc.nat(255), fc.nat(stream.length), (at, to, cut) => {
      const damaged = Uint8Array.from(stream);
      damaged[at] = to;
      assert.equal(typeof splitStream(damaged.subarray(0, cut)).ok, 'boolean');
      messageHead(damaged.subarray(8, cut));
    }),
    { seed: 99, numRuns: 5000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (input) => {
      messageHead(input);
      splitStream(input);
    }),
    { seed: 100, numRuns: 5000 },
  );
});

test('a record batch whose head points anywhere is a value', () => {
  const split = splitStream(tableToIPC(arrow_table, 'stream'));
  assert.ok(split.ok);
  const header = split.value.messages.at(-1)?.data_header ?? new Uint8Array(0);
  const change = fc.tuple(fc.nat(header.length - 1), fc.constantFrom(0, 1, 4, 0x7f, 0x80, 0xff));
  let refused = 0;
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      const damaged = Uint8Array.from(header);
      for (const [at, to] of changes) damaged[at] = to;
      if (!messageHead(damaged)) refused++;
    }),
    { seed: 101, numRuns: 20_000 },
  );
  assert.ok(refused > 0, 'no change was ever noticed');
});
