// Any Arrow Flight client: one that writes without our metadata, and one that reads tables, queries and schemas.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { tableFromIPC } from 'apache-arrow';
import { netflow } from '../../probes/netflow.ts';
import { bytesRead, flowBatch, temporaryDir } from '../store/testing.ts';
import { type Decoded, type FlightData, type FlightInfo, flight_service } from '../wire/flight.ts';
import { joinStream, splitStream } from '../wire/ipc.ts';
import { Reducer } from './reducer.ts';

const dir = temporaryDir();
const host = '127.0.0.1';
const EMPTY = new Uint8Array();
let reducer: Reducer;
let client: Client;

before(async () => {
  const store = { dir: join(dir.path, 'store') };
  reducer = await Reducer.start({ listen: { host, port: 0 }, store, tables: [netflow] });
  client = new Client(`${host}:${reducer.port}`, credentials.createInsecure());
});
after(async () => {
  client.close();
  await reducer.close();
  dir.remove();
});

/** What the codecs of the wire yield on the client's side: the value, or why the bytes were none. */
function decodedOf<T>(piece: unknown): T {
  const decoded = piece as Decoded<T>;
  assert.ok(decoded.ok);
  return decoded.value;
}

interface BytesMethod {
  readonly path: string;
  readonly requestSerialize: (value: Uint8Array) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => unknown;
}

async function stream<T>(method: 'DoGet' | 'ListFlights', request: Uint8Array): Promise<T[]> {
  const { path, requestSerialize, responseDeserialize }: BytesMethod = flight_service[method];
  const call = client.makeServerStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    request,
    new Metadata(),
  );
  const values: T[] = [];
  for await (const piece of call) values.push(decodedOf<T>(piece));
  return values;
}

async function read(ticket: string) {
  const [schema, ...messages] = await stream<FlightData>('DoGet', Buffer.from(ticket));
  assert.ok(schema);
  return tableFromIPC(joinStream({ schema: schema.data_header, messages }));
}

/** One stream of a client that knows nothing of us: a schema, then a record batch. */
async function putForeign(arrow: Uint8Array): Promise<number> {
  const split = splitStream(arrow);
  assert.ok(split.ok);
  const { path, requestSerialize, responseDeserialize } = flight_service.DoPut;
  const call = client.makeBidiStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    new Metadata(),
  );
  const message = { descriptor: undefined, app_metadata: EMPTY, data_body: EMPTY };
  const descriptor = { path: ['netflow'], command: EMPTY };
  call.write({ ...message, descriptor, data_header: split.value.schema });
  for (const one of split.value.messages) call.write({ ...message, ...one });
  call.end();
  let results = 0;
  for await (const _ of call) results += 1;
  return results;
}

test('batches of a client without our metadata are all stored, though their numbers repeat', async () => {
  const { arrow } = flowBatch(1, 30, Date.now());
  for (let i = 0; i < 2; i += 1) assert.ok((await putForeign(arrow)) > 0);
  const table = await read('{"sql": "SELECT sum(bytes_read) AS b, any(host) AS h FROM netflow"}');
  assert.equal(Number(table.getChild('b')?.get(0)), 2 * bytesRead(1, 30));
  assert.equal(table.getChild('h')?.get(0), host);
});

test('DoGet answers with a table, its rollup, or a query', async () => {
  assert.equal((await read('netflow')).numRows, 60);
  assert.equal((await read('netflow_1h')).numRows, 30);
  await assert.rejects(read('nosuch'), /no table is called "nosuch"/);
  await assert.rejects(read('{"sql": "DROP TABLE netflow"}'), /refused: .*Only reading/);
});

test('ListFlights names every table with its rows', async () => {
  const infos = await stream<FlightInfo>('ListFlights', EMPTY);
  const rows = new Map(infos.map((info) => [info.descriptor?.path[0], Number(info.total_records)]));
  assert.deepEqual(
    [...rows.keys()].sort(),
    ['connections', 'netflow', 'netflow_1h', 'netflow_1m', 'sonde_ledger'].concat([
      'sonde_ledger_1h',
      'sonde_ledger_1m',
    ]),
  );
  assert.equal(rows.get('netflow'), 60);
});

test('GetSchema tells the columns of a query without running it to its end', async () => {
  const { path, requestSerialize, responseDeserialize } = flight_service.GetSchema;
  const command = Buffer.from('{"sql": "SELECT host, bytes_read * 2 AS twice FROM netflow"}');
  const answer = await new Promise<unknown>((resolve, reject) => {
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      { path: [], command },
      new Metadata(),
      (error, value) => (error ? reject(error) : resolve(value)),
    );
  });
  const bytes = Buffer.concat([
    decodedOf<Uint8Array>(answer),
    Buffer.from('ffffffff00000000', 'hex'),
  ]);
  const names = tableFromIPC(bytes).schema.fields.map(({ name }) => name);
  assert.deepEqual(names, ['host', 'twice']);
});

test('queries whose clients have gone hold up nobody', async () => {
  const { path, requestSerialize, responseDeserialize } = flight_service.DoAction;
  const ask = (sql: string) =>
    client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      { type: 'query', body: Buffer.from(JSON.stringify({ sql })) },
      new Metadata(),
    );
  const endless = 'SELECT (SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1)';
  // More than there are places; half of them leave while they wait in line.
  const actions = Array.from({ length: 5 }, () => ask(endless));
  const ticket = Buffer.from(JSON.stringify({ sql: endless }));
  const { DoGet } = flight_service;
  const get = client.makeServerStreamRequest(
    DoGet.path,
    DoGet.requestSerialize,
    DoGet.responseDeserialize,
    ticket,
    new Metadata(),
  );
  const ended = [...actions, get].map((call) => call.on('error', () => undefined).resume());
  await delay(500);
  for (const call of ended) call.cancel();
  const began = performance.now();
  assert.equal((await read('{"sql": "SELECT 1"}')).numRows, 1);
  assert.ok(performance.now() - began < 5000, `${performance.now() - began} ms`);
});
