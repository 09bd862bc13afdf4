// pyarrow and `sonde reducer`: what it writes is stored and answered to SQL, what we write it can read.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bytesRead, flowBatch } from '../../src/store/testing.ts';
import { pyarrow } from '../python.ts';
import { ask, command, makePlace, type Running, startReducer } from './sonde.ts';

const missing = pyarrow.missing();
const ROWS = 5000;

const program = `
import json, sys, time
import pyarrow as pa
import pyarrow.flight as fl

port, batch_path = sys.argv[1:]
client = fl.connect('grpc://127.0.0.1:' + port)
options = fl.FlightCallOptions(headers=[(b'authorization', b'Bearer secret')], timeout=30)
out = {}

def put(table, batches):
    path = fl.FlightDescriptor.for_path(table)
    writer, reader = client.do_put(path, batches[0].schema, options)
    acks = 0
    for batch in batches:
        writer.write_batch(batch)
        acks += json.loads(reader.read().to_pybytes()).get('rejected') is None
    writer.done_writing()
    writer.close()
    return acks

# A batch that sonde wrote, sent on twice.
with pa.ipc.open_stream(batch_path) as stream:
    batches = list(stream)
out['columns'] = batches[0].schema.names
out['acks'] = put('netflow', batches + batches)

# One made here from nothing but the documents: a table of sonde's own.
def words(*texts):
    return pa.array(texts).dictionary_encode()
now = int(time.time() * 1000)
columns = {
    'time': pa.array([now, now], pa.timestamp('ms')),
    'stage': words('outlet', 'outlet'), 'table': words('made_in_python', 'made_in_python'),
    'outcome': words('seen', 'kept'), 'reason': words('', ''),
    'count': pa.array([7, 7], pa.uint64()),
}
made = pa.record_batch(list(columns.values()), names=list(columns))
out['made'] = put('sonde_ledger', [made])

def rows(sql):
    ticket = fl.Ticket(json.dumps({'sql': sql}).encode())
    return client.do_get(ticket, options).read_all().to_pylist()
out['sum'] = [float(x) for x in rows('SELECT toFloat64(sum(bytes_read)) AS b, toFloat64(count()) AS n FROM netflow')[0].values()]
out['ledger'] = rows("SELECT toUInt32(sum(count)) AS n FROM sonde_ledger WHERE \`table\` = 'made_in_python'")
out['whole'] = client.do_get(fl.Ticket(b'netflow'), options).read_all().num_rows
out['flights'] = sorted(f.descriptor.path[0].decode() for f in client.list_flights(options=options))

def failure(run):
    try:
        run()
        return 'none'
    except Exception as error:
        return type(error).__name__
wrong = pa.record_batch([pa.array([1.5])], names=['bytes_read'])
out['wrong'] = failure(lambda: put('netflow', [wrong])) + ' ' + str(put('netflow', [wrong]))
out['no table'] = str(put('of_nobody', [wrong]))
out['no token'] = failure(lambda: list(client.list_flights()))
print(json.dumps(out))
`;

test('pyarrow writes to and reads from sonde reducer', { skip: missing ?? false }, async (t) => {
  const place = await makePlace(t, { SONDE_REDUCER_TOKEN: 'secret', SONDE_TOKEN: 'secret' });
  const reducer: Running = await startReducer(place);
  const file = join(place.dir, 'batch.arrows');
  writeFileSync(file, flowBatch(1, ROWS, Date.now()).arrow);
  const { status, stdout, stderr } = await pyarrow.run(program, [String(place.port), file]);
  assert.equal(status, 0, stderr);
  const out = JSON.parse(stdout);
  assert.ok(out.columns.includes('bytes_read'), out.columns);
  assert.deepEqual(
    { ...out, columns: [], flights: [] },
    {
      columns: [],
      acks: 2,
      made: 1,
      sum: [2 * bytesRead(1, ROWS), 2 * ROWS],
      ledger: [{ n: 14 }],
      whole: 2 * ROWS,
      flights: [],
      wrong: 'none 0',
      'no table': '0',
      'no token': 'FlightUnauthenticatedError',
    },
  );
  for (const table of ['netflow', 'sonde_ledger']) assert.ok(out.flights.includes(table), table);
  const sql = 'SELECT toUInt32(count()) AS n FROM netflow';
  assert.deepEqual(await ask(place, sql, []), [{ n: 2 * ROWS }]);
  const at = ['--reducer', `127.0.0.1:${place.port}`];
  const ledger = await command(place, ['ledger', '--json', ...at]);
  const { differences } = JSON.parse(ledger.stdout.toString('utf8'));
  assert.deepEqual(differences, []);
  assert.equal((await reducer.end()).code, 0);
});
