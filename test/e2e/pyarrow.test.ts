// A foreign client: pyarrow writes to and reads from our Flight server. Skips, with its reason, where there is no
// Python or no package index.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Table, tableFromArrays, tableFromIPC, tableToIPC } from 'apache-arrow';
import { FlightError, type FlightRequest } from '../../src/wire/answers.ts';
import type { WireBatch } from '../../src/wire/assembler.ts';
import { joinStream, splitStream } from '../../src/wire/ipc.ts';
import type { Ack, Sender } from '../../src/wire/put.ts';
import { FlightServer } from '../../src/wire/server.ts';
import { pyarrow } from '../python.ts';

const missing = pyarrow.missing();

const program = `
import json, sys
import pyarrow as pa
import pyarrow.flight as fl

client = fl.connect('grpc://127.0.0.1:' + sys.argv[1])
options = fl.FlightCallOptions(headers=[(b'authorization', b'Bearer secret')], timeout=20)
out = {}

schema = pa.schema([('name', pa.dictionary(pa.int32(), pa.string())), ('n', pa.int64()),
                    ('port', pa.uint16())])
writer, reader = client.do_put(fl.FlightDescriptor.for_path('netflow'), schema, options)
acks = []
for batch in range(12):
    names = pa.array(['p%d' % (i % (3 + batch)) for i in range(5000)]).dictionary_encode()
    rows = pa.record_batch([names, pa.array(range(batch * 5000, batch * 5000 + 5000)),
                            pa.array([i % 65536 for i in range(5000)], pa.uint16())], schema=schema)
    writer.write_batch(rows)
    acks.append(json.loads(reader.read().to_pybytes())['seq'])
writer.done_writing()
writer.close()
out['acks'] = acks

table = client.do_get(fl.Ticket(b'netflow'), options).read_all()
out['rows'] = table.num_rows
out['sum'] = sum(table['n'].to_pylist())
out['names'] = sorted(set(table['name'].to_pylist()))
sql = client.do_get(fl.Ticket(json.dumps({'sql': 'SELECT 42 AS n'}).encode()), options).read_all()
out['sql'] = sql.to_pylist()

flights = list(client.list_flights(options=options))
out['flights'] = [[f.descriptor.path[0].decode(), f.total_records, f.total_bytes] for f in flights]
out['fields'] = flights[0].schema.names
descriptor = fl.FlightDescriptor.for_path('netflow')
info = client.get_flight_info(descriptor, options)
out['ticket'] = info.endpoints[0].ticket.ticket.decode()
out['schema'] = client.get_schema(descriptor, options).schema.names
out['actions'] = [[a.type, a.description] for a in client.list_actions(options)]
out['health'] = [r.body.to_pybytes().decode() for r in client.do_action(fl.Action('health', b'x'), options)]

def failure(run):
    try:
        run()
        return 'none'
    except Exception as error:
        return type(error).__name__

out['errors'] = {
    'unknown table': failure(lambda: client.do_get(fl.Ticket(b'nothing'), options).read_all()),
    'bad ticket': failure(lambda: client.do_get(fl.Ticket(b'{'), options).read_all()),
    'unknown action': failure(lambda: list(client.do_action(fl.Action('no', b''), options))),
    'no token': failure(lambda: list(client.list_flights())),
    'exchange': failure(lambda: client.do_exchange(descriptor, options)[1].read_all()),
}
print(json.dumps(out))
`;

/** Keeps what is put, and answers from it. */
function memoryStore() {
  const streams: Buffer[] = [];
  const senders: Sender[] = [];
  const stored = (): Table =>
    tableFromIPC(streams[0]).concat(...streams.slice(1).map((one) => tableFromIPC(one)));
  const messagesOf = (table: Table) => {
    const split = splitStream(tableToIPC(table, 'stream'));
    assert.ok(split.ok);
    return split.value;
  };
  const listing = () => {
    const { schema } = messagesOf(stored());
    return { table: 'netflow', schema, rows: stored().numRows, bytes: 17 };
  };
  return {
    senders,
    put: async (sender: Sender, batch: WireBatch): Promise<Ack> => {
      senders.push(sender);
      streams.push(joinStream(batch));
      return { ok: true };
    },
    get: async function* (request: FlightRequest) {
      const sql = request.kind === 'sql';
      if (!sql && request.table !== 'netflow') throw new FlightError('not_found', 'no such table');
      const tables = sql ? [tableFromArrays({ n: Int32Array.of(42) })] : [stored()];
      for (const table of tables) {
        const { schema, messages } = messagesOf(table);
        yield { data_header: schema, data_body: new Uint8Array(0) };
        yield* messages;
      }
    },
    list: async () => [listing()],
    actions: {
      health: {
        description: 'Tells that it lives',
        run: async (body: Uint8Array) => Buffer.concat([Buffer.from('ok '), body]),
      },
    },
  };
}

test('pyarrow writes to and reads from our server', { skip: missing ?? false }, async (t) => {
  const store = memoryStore();
  const options = { host: '127.0.0.1', port: 0, token: 'secret' };
  const server = await FlightServer.listen(options, store);
  t.after(() => server.close());
  const { status, stdout, stderr } = await pyarrow.run(program, [String(server.port)]);
  assert.equal(status, 0, stderr);
  const rows = 60_000;
  assert.deepEqual(JSON.parse(stdout), {
    acks: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    rows,
    sum: (rows * (rows - 1)) / 2,
    names: Array.from({ length: 14 }, (_, index) => `p${index}`).sort(),
    sql: [{ n: 42 }],
    flights: [['netflow', rows, 17]],
    fields: ['name', 'n', 'port'],
    ticket: 'netflow',
    schema: ['name', 'n', 'port'],
    actions: [['health', 'Tells that it lives']],
    health: ['ok x'],
    errors: {
      'unknown table': 'ArrowKeyError',
      'bad ticket': 'ArrowInvalid',
      'unknown action': 'ArrowKeyError',
      'no token': 'FlightUnauthenticatedError',
      exchange: 'ArrowNotImplementedError',
    },
  });
  assert.match(store.senders[0].collector_id, /^flight:127\.0\.0\.1:\d+$/);
  assert.equal(server.stats.refused.unauthenticated, 1);
});
