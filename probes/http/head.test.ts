// The parser against golden messages, and against Node's own parser (llhttp) on the same bytes.

import assert from 'node:assert/strict';
import http from 'node:http';
import { Duplex } from 'node:stream';
import test from 'node:test';
import fc from 'fast-check';
import { type Head, HeadParser, type HeadSink, looksLikeStart } from './head.ts';

const SEED = { seed: 20260728, numRuns: 300 };

interface Message {
  readonly line: string;
  readonly headers: readonly string[];
  readonly body: string;
  readonly trailers: readonly string[];
  /** Undefined while it is open. */
  complete: boolean | undefined;
}

class Keeper implements HeadSink {
  readonly messages: Message[] = [];
  readonly heads: Head[] = [];
  readonly methods: string[];

  constructor(methods: readonly string[] = []) {
    this.methods = [...methods];
  }

  method(): string {
    return this.methods.shift() ?? 'GET';
  }

  head(head: Head): void {
    const { method, target, status, version, headers } = head;
    const line = head.kind === 'request' ? `${method} ${target} ${version}` : `${status}`;
    this.heads.push(head);
    this.messages.push({ line, headers, body: '', trailers: [], complete: undefined });
  }

  body(bytes: Uint8Array, from: number, to: number): void {
    const last = this.messages[this.messages.length - 1]!;
    const text = Buffer.from(bytes.subarray(from, to)).toString('latin1');
    this.messages[this.messages.length - 1] = { ...last, body: last.body + text };
  }

  trailers(trailers: readonly string[]): void {
    const last = this.messages[this.messages.length - 1]!;
    this.messages[this.messages.length - 1] = { ...last, trailers };
  }

  end(complete: boolean): void {
    const last = this.messages[this.messages.length - 1]!;
    assert.equal(last.complete, undefined, 'a message ends once');
    last.complete = complete;
  }
}

function parse(
  kind: 'request' | 'response',
  pieces: readonly (string | Uint8Array)[],
  methods: readonly string[] = [],
): { keeper: Keeper; parser: HeadParser } {
  const keeper = new Keeper(methods);
  const parser = new HeadParser(kind, keeper);
  for (const piece of pieces) {
    parser.feed(typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece);
  }
  return { keeper, parser };
}

const brief = ({ messages }: Keeper): unknown[] =>
  messages.map(({ line, body, complete }) => [line, body, complete]);

/** Name; kind; bytes; methods asked; messages; state after. */
const CASES: readonly (readonly [
  string,
  'request' | 'response',
  string,
  string[],
  unknown,
  string,
])[] = [
  ['GET', 'request', 'GET /a HTTP/1.1\r\nHost: x\r\n\r\n', [], [['GET /a 1.1', '', true]], 'start'],
  ['bare LF', 'request', 'GET /a HTTP/1.0\nHost: x\n\n', [], [['GET /a 1.0', '', true]], 'start'],
  [
    'pipelined, with an empty line between',
    'request',
    'POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\r\nGET /b HTTP/1.1\r\n\r\n',
    [],
    [
      ['POST /a 1.1', 'abc', true],
      ['GET /b 1.1', '', true],
    ],
    'start',
  ],
  [
    'chunked, with extensions and trailers',
    'request',
    'PUT /a HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n' +
      '3;x="y"\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n',
    [],
    [['PUT /a 1.1', 'abc0123456789', true]],
    'start',
  ],
  [
    'a body that looks like a head',
    'request',
    'POST /a HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET /b HTTP/1.1\r\n\r',
    [],
    [['POST /a 1.1', 'GET /b HTTP/1.1\r\n\r', true]],
    'start',
  ],
  ['two lengths', 'request', 'POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\nab', [], [], 'lost'],
  [
    'equal lengths',
    'request',
    'POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na',
    [],
    [['POST / 1.1', 'a', true]],
    'start',
  ],
  [
    'a length that is none',
    'request',
    'POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na',
    [],
    [],
    'lost',
  ],
  [
    'coding that is not chunked',
    'request',
    'POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n',
    [],
    [],
    'lost',
  ],
  ['a blank before the colon', 'request', 'GET / HTTP/1.1\r\nHost : x\r\n\r\n', [], [], 'lost'],
  ['TLS', 'request', '\x16\x03\x01\x02\x00\x01', [], [], 'lost'],
  ['no version', 'request', 'GET /\r\n', [], [], 'lost'],
  [
    'bad chunk',
    'request',
    'PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n',
    [],
    [['PUT / 1.1', '', false]],
    'lost',
  ],
  [
    'HTTP/2',
    'request',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0',
    [],
    [['PRI * 2.0', '', true]],
    'tunnel',
  ],
  [
    'HEAD',
    'response',
    'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx',
    ['HEAD', 'GET'],
    [
      ['200', '', true],
      ['404', 'x', true],
    ],
    'start',
  ],
  [
    '100 Continue',
    'response',
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204\r\n\r\n',
    ['PUT'],
    [
      ['100', '', true],
      ['204', '', true],
    ],
    'start',
  ],
  [
    '304 with a length',
    'response',
    'HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n',
    [],
    [['304', '', true]],
    'start',
  ],
  [
    '101',
    'response',
    'HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x81\x05',
    [],
    [['101', '', true]],
    'tunnel',
  ],
  [
    'CONNECT',
    'response',
    'HTTP/1.1 200 OK\r\n\r\n\x16\x03',
    ['CONNECT'],
    [['200', '', true]],
    'tunnel',
  ],
  [
    'until the end',
    'response',
    'HTTP/1.0 200 OK\r\n\r\nabc',
    [],
    [['200', 'abc', undefined]],
    'body',
  ],
  [
    'chunked response',
    'response',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n',
    [],
    [['200', 'a', true]],
    'start',
  ],
];

test('golden messages, whole and byte by byte', () => {
  for (const [name, kind, text, methods, messages, state] of CASES) {
    const whole = parse(kind, [text], methods);
    assert.deepEqual(brief(whole.keeper), messages, name);
    assert.equal(whole.parser.state, state, name);
    const bytes = parse(kind, [...text], methods);
    if (state !== 'lost') assert.deepEqual(brief(bytes.keeper), messages, `${name}, in bytes`);
  }
});

test('headers: folded, empty, repeated, and beyond the limits', () => {
  const { keeper } = parse('request', ['GET / HTTP/1.1\r\nA: 1\r\n  2\r\nB:\r\nA:\t3 \r\n\r\n']);
  assert.deepEqual(keeper.heads[0]!.headers, ['A', '1 2', 'B', '', 'A', '3']);
  const small = new Keeper();
  const parser = new HeadParser('request', small, { line_max: 20, headers_max: 2 });
  parser.feed(
    Buffer.from(
      `POST /a HTTP/1.1\r\nA: ${'x'.repeat(50)}\r\nB: 1\r\nC: 2\r\nContent-Length: 1\r\n\r\na`,
    ),
  );
  assert.equal(small.heads[0]!.headers_cut, 2);
  assert.deepEqual(small.heads[0]!.headers.slice(0, 4), ['A', 'x'.repeat(17), 'B', '1']);
  assert.deepEqual(brief(small), [['POST /a 1.1', 'a', true]]);
});

test('a head without an end, a line without an end: lost, and memory is bounded', () => {
  const { parser, keeper } = parse('request', ['GET / HTTP/1.1\r\n']);
  const piece = Buffer.from(`A: ${'x'.repeat(60_000)}\r\n`);
  for (let i = 0; i < 100 && parser.state !== 'lost'; i += 1) parser.feed(piece);
  assert.equal(parser.state, 'lost');
  assert.equal(keeper.messages.length, 0);
  parser.feed(Buffer.from('GET /again HTTP/1.1\r\n\r\n'));
  assert.deepEqual(brief(keeper), [['GET /again 1.1', '', true]]);
});

test('missed bytes: harmless within a body, else lost until a message begins', () => {
  const { parser, keeper } = parse('request', ['POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nab']);
  parser.gap(6);
  parser.feed(Buffer.from('ij'));
  assert.deepEqual(brief(keeper), [['POST / 1.1', 'abij', true]]);
  parser.feed(Buffer.from('GET /x HT'));
  parser.gap(3);
  assert.equal(parser.state, 'lost');
  parser.feed(Buffer.from('1\r\n\r\n'));
  assert.equal(parser.state, 'lost');
  parser.feed(Buffer.from('GET /y HTTP/1.1\r\n\r\n'));
  assert.equal(keeper.messages[1]!.line, 'GET /y 1.1');
  assert.equal(parser.lost, 1);
});

test('the end of the connection ends a body without a length, and cuts others', () => {
  const open = parse('response', ['HTTP/1.1 200 OK\r\n\r\nabc']);
  open.parser.finish();
  assert.deepEqual(brief(open.keeper), [['200', 'abc', true]]);
  const cut = parse('response', ['HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc']);
  cut.parser.finish();
  assert.deepEqual(brief(cut.keeper), [['200', 'abc', false]]);
});

test('hostile bytes: no throw, and a parser that is not lost is where it was', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.constantFrom(...CASES.map(([, , text]) => Buffer.from(text, 'latin1'))),
    fc
      .constantFrom('\r\n', 'GET / HTTP/1.1\r\n', 'a: b\r\n', 'Content-Length: 4\r\n', '0\r\n')
      .map((s) => Buffer.from(s)),
  );
  fc.assert(
    fc.property(fc.constantFrom('request', 'response'), fc.array(piece), (kind, pieces) => {
      const { parser } = parse(kind as 'request', pieces);
      parser.finish();
      assert.equal(parser.state, 'start');
    }),
    { ...SEED, numRuns: 2000 },
  );
});

test('what looks like a start', () => {
  assert.ok(looksLikeStart('request', Buffer.from('GET /x')));
  assert.ok(looksLikeStart('response', Buffer.from('HTTP/1.1 200 OK')));
  for (const text of ['', 'GET', 'GETX /', 'get /', 'HTTP/1.1 200', '\x16\x03\x01']) {
    assert.ok(!looksLikeStart('request', Buffer.from(text)), text);
  }
});

// ---- Node's parser on the same bytes ----

const token = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,12}$/).map((name) => `X-${name}`);
const value = fc.stringMatching(/^[!-~](?:[ -~]{0,30}[!-~])?$/);
const headers = fc.array(fc.tuple(token, value), { maxLength: 6 });
const body = fc.option(
  fc.string({ maxLength: 300 }).map((text) => Buffer.from(text)),
  { nil: undefined },
);
const cuts = fc.array(fc.nat(4000), { maxLength: 12 });

/** A body in chunks of several sizes, some with an extension. */
function chunked(bytes: Buffer, step: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += step) {
    const piece = bytes.subarray(at, at + step);
    const extension = at % 3 === 1 ? ';a=b' : '';
    parts.push(
      Buffer.from(`${piece.length.toString(16)}${extension}\r\n`),
      piece,
      Buffer.from('\r\n'),
    );
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')]);
}

const message = (line: fc.Arbitrary<string>): fc.Arbitrary<Buffer> =>
  fc
    .record({ line, headers, body, chunks: fc.boolean(), step: fc.integer({ min: 1, max: 90 }) })
    .map(({ line: first, headers: lines, body: bytes, chunks, step }) => {
      const all = lines.map(([name, text]) => `${name}: ${text}\r\n`).join('');
      if (bytes === undefined) return Buffer.from(`${first}\r\n${all}Content-Length: 0\r\n\r\n`);
      const framing = chunks ? 'Transfer-Encoding: chunked' : `Content-Length: ${bytes.length}`;
      const end = chunks ? chunked(bytes, step) : bytes;
      return Buffer.concat([Buffer.from(`${first}\r\n${all}${framing}\r\n\r\n`), end]);
    });

function split(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [...new Set([0, ...at.map((n) => n % (bytes.length + 1)), bytes.length])];
  places.sort((a, b) => a - b);
  return places.slice(1).map((to, i) => bytes.subarray(places[i], to));
}

class Line extends Duplex {
  override _read(): void {
    // the test pushes
  }
  override _write(_: unknown, __: unknown, done: () => void): void {
    done();
  }
}

async function nodeRequests(pieces: readonly Buffer[], count: number): Promise<unknown[]> {
  const seen: unknown[] = [];
  const line = new Line();
  const server = http.createServer();
  const all = new Promise<void>((resolve, reject) => {
    server.on('clientError', reject);
    server.on('request', (request, response) => {
      let text = '';
      request.setEncoding('latin1').on('data', (part: string) => (text += part));
      request.on('end', () => {
        const { method, url, httpVersion, rawHeaders } = request;
        seen.push([`${method} ${url} ${httpVersion}`, rawHeaders, text]);
        response.end();
        if (seen.length === count) resolve();
      });
    });
  });
  server.emit('connection', line);
  for (const piece of pieces) line.push(piece);
  await all;
  line.destroy();
  return seen;
}

test('requests: as Node reads them, however they are cut', async () => {
  const method = fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH');
  const target = fc.webPath({ size: 'small' }).map((path) => path || '/');
  const line = fc.tuple(method, target).map(([m, path]) => `${m} ${path} HTTP/1.1\r\nHost: h`);
  await fc.assert(
    fc.asyncProperty(
      fc.array(message(line), { minLength: 1, maxLength: 4 }),
      cuts,
      async (all, at) => {
        const pieces = split(Buffer.concat(all), at);
        const { keeper } = parse('request', pieces);
        const ours = keeper.messages.map(
          ({ line: first, headers: lines, body: text, complete }) => {
            assert.equal(complete, true);
            return [first, lines, text];
          },
        );
        assert.deepEqual(ours, await nodeRequests(pieces, all.length));
      },
    ),
    SEED,
  );
});

async function nodeResponse(method: string, pieces: readonly Buffer[]): Promise<unknown[]> {
  const seen: unknown[] = [];
  const line = new Line();
  const request = http.request({ method, createConnection: () => line });
  await new Promise<void>((resolve, reject) => {
    request.on('error', reject);
    request.on('information', ({ statusCode }) => seen.push([`${statusCode}`, '']));
    request.on('response', (response) => {
      let text = '';
      response.setEncoding('latin1').on('data', (part: string) => (text += part));
      response.on('end', () => {
        seen.push([`${response.statusCode}`, text]);
        resolve();
      });
    });
    request.end();
    for (const piece of pieces) line.push(piece);
    line.push(null);
  });
  line.destroy();
  return seen;
}

test('responses: as Node reads them, to every method, with 1xx before', async () => {
  const status = fc.constantFrom(200, 201, 204, 206, 301, 304, 400, 404, 500, 503);
  const line = status.map((n) => `HTTP/1.1 ${n} Some Reason`);
  const early = fc.constantFrom(
    '',
    'HTTP/1.1 102 Processing\r\n\r\n',
    'HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n',
  );
  const method = fc.constantFrom('GET', 'HEAD', 'POST');
  await fc.assert(
    fc.asyncProperty(method, early, message(line), cuts, async (asked, before, bytes, at) => {
      const bodiless = asked === 'HEAD' || / (204|304) /.test(bytes.toString('latin1', 0, 14));
      const head_end = bytes.indexOf('\r\n\r\n') + 4;
      const sent = bodiless ? bytes.subarray(0, head_end) : bytes;
      const pieces = split(Buffer.concat([Buffer.from(before), sent]), at);
      const { keeper, parser } = parse('response', pieces, [asked]);
      assert.equal(parser.state, 'start');
      const ours = keeper.messages.map(({ line: first, body: text }) => [first, text]);
      assert.deepEqual(ours, await nodeResponse(asked, pieces));
    }),
    SEED,
  );
});
