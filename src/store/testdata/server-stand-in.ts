// A stand-in for a ClickHouse server, for tests: the embedded engine behind as much of ClickHouse's HTTP interface as
// @clickhouse/client uses. It is no server: no users, no compression, no streaming. Run as a process of its own, since a
// process has one engine: `node server-stand-in.ts <folder>` prints its URL.

import { unlinkSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type Engine, openEngine } from '../engine.ts';
import { literal } from '../sql.ts';

const [dir = ''] = process.argv.slice(2);
const engine = await openEngine({ dir });
let files = 0;

/** Parameters of the HTTP interface that are no settings of the engine. */
const NOT_SETTINGS = new Set(['query', 'query_id', 'database', 'session_id', 'role']);
const HTTP_SETTINGS = new Set(['wait_end_of_query', 'enable_http_compression']);

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function settingsOf(params: URLSearchParams): Record<string, string> {
  const settings: Record<string, string> = { max_threads: '2' };
  for (const [name, value] of params) {
    if (!NOT_SETTINGS.has(name) && !HTTP_SETTINGS.has(name)) settings[name] = value;
  }
  // The client asks for 64-bit numbers as a server would write them.
  const { readonly, ...rest } = settings;
  return readonly === undefined ? rest : { ...rest, readonly };
}

/** `FROM input(…) FORMAT ArrowStream` with a body becomes `FROM file(…)`, which the engine can read. */
async function insert(
  engineUsed: Engine,
  sql: string,
  body: Buffer,
  settings: Record<string, string>,
): Promise<void> {
  const found = /^([\s\S]*) FROM input\(([\s\S]*)\) FORMAT ArrowStream\s*$/.exec(sql);
  if (found === null) throw new Error(`The stand-in takes Arrow only: ${sql.slice(0, 100)}`);
  files += 1;
  const path = join(dir, `body-${files}.arrow`);
  writeFileSync(path, body);
  try {
    const query = `${found[1]} FROM file(${literal(path)}, 'ArrowStream', ${found[2]})`;
    (await engineUsed.output(query, settings)).resume();
  } finally {
    unlinkSync(path);
  }
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://stand-in');
  if (url.pathname === '/ping') return void response.end('Ok.\n');
  const body = await bodyOf(request);
  const settings = settingsOf(url.searchParams);
  const given = url.searchParams.get('query');
  try {
    if (given !== null && body.length > 0) {
      await insert(engine, given, body, settings);
      return void response.end();
    }
    const gone = new AbortController();
    if (settings.cancel_http_readonly_queries_on_client_close === '1') {
      response.once('close', () => gone.abort());
    }
    const stream = await engine.output(given ?? body.toString('utf8'), settings, gone.signal);
    response.setHeader('x-clickhouse-summary', '{}');
    stream.pipe(response);
  } catch (error) {
    const { code, type, message } = { code: 1, type: 'UNKNOWN', message: '', ...partsOf(error) };
    response.writeHead(500, { 'x-clickhouse-exception-code': String(code) });
    response.end(`Code: ${code}. DB::Exception: ${message} (${type}) (version 0.0.0 (stand-in))\n`);
  }
}

function partsOf(error: unknown): object {
  if (!(error instanceof Error)) return { message: String(error) };
  return { ...error, message: error.message };
}

const server = createServer((request, response) => void answer(request, response));
server.listen(0, '127.0.0.1', () => {
  // Listening on TCP, so this is an object.
  const { port } = server.address() as AddressInfo;
  console.log(`http://127.0.0.1:${port}`);
});
