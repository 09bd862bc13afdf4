// What the tests of capture share: a server and a client as processes of their own, that say what they sent and received;
// and the reader of captured lines.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Cleanup } from '../../test/traffic/traffic.ts';

export interface Said {
  readonly method?: string;
  readonly target?: string;
  readonly version: string;
  readonly status?: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly trailers?: readonly (readonly [string, string])[];
  readonly body: string;
  readonly body_encoding: 'utf8' | 'base64';
  readonly body_bytes: number;
  readonly complete: boolean;
  readonly cut?: string;
  readonly body_withheld?: string;
  readonly body_decoded?: string;
}

export interface Captured {
  readonly mode: string;
  readonly complete: boolean;
  readonly client: { readonly address: string; readonly port: number };
  readonly server: { readonly address: string; readonly port: number };
  readonly process: { readonly pid: number; readonly name: string };
  readonly request: Said;
  readonly response: Said | null;
}

export function bodyOf(said: Said): Buffer {
  return Buffer.from(said.body, said.body_encoding);
}

export function headerOfSaid(said: Said, name: string): string | undefined {
  return said.headers.find(([one]) => one.toLowerCase() === name)?.[1];
}

/** Listens as the reader does; `pause` stops reading until `resume`. */
export class Reader {
  readonly path: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #text: Buffer[] = [];
  #paused = false;
  #lines = 0;
  #next: Reader | undefined;
  connections = 0;

  static async listen(t: Cleanup, path: string): Promise<Reader> {
    const reader = new Reader(path);
    await new Promise<void>((done) => reader.#server.listen(path, done));
    t.after(() => reader.close());
    return reader;
  }

  private constructor(path: string) {
    this.path = path;
    this.#server = createServer((socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
      socket.on('error', () => undefined); // the tests end as they like
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('data', (bytes) => this.#take(bytes));
      if (this.#paused) socket.pause();
    });
  }

  pause(): void {
    this.#paused = true;
    for (const socket of this.#sockets) socket.pause();
  }

  resume(): void {
    this.#paused = false;
    for (const socket of this.#sockets) socket.resume();
  }

  /** Whole lines so far. */
  get lines(): readonly Captured[] {
    const all = Buffer.concat(this.#text);
    this.#text = [all];
    const lines = all.toString('utf8').split('\n');
    lines.pop();
    return lines.map((line) => JSON.parse(line));
  }

  get count(): number {
    return this.#lines;
  }

  /** Another reader at the same place, after this one has gone. */
  async again(): Promise<Reader> {
    await this.close();
    const reader = new Reader(this.path);
    await new Promise<void>((done) => reader.#server.listen(this.path, done));
    this.#next = reader;
    return reader;
  }

  get raw(): Buffer {
    return Buffer.concat(this.#text);
  }

  #take(bytes: Buffer): void {
    this.#text.push(bytes);
    for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) this.#lines += 1;
  }

  async close(): Promise<void> {
    await this.#next?.close();
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((done) => this.#server.close(() => done()));
    rmSync(this.path, { force: true });
  }
}

export interface Worker {
  readonly pid: number;
  /** What it answered to a word. */
  ask(words: unknown): Promise<unknown>;
  stop(): void;
}

/** A Node of its own that runs this module text; it speaks JSON lines on its standard streams. */
export async function startWorker(t: Cleanup, source: string, netns?: string): Promise<Worker> {
  const words = [process.execPath, '--input-type=module', '-e', `${ASKED}\n${source}`];
  const all = netns === undefined ? words : ['ip', 'netns', 'exec', netns, ...words];
  const [program = '', ...rest] = all;
  const child: ChildProcess = spawn(program, rest, { stdio: ['pipe', 'pipe', 'inherit'] });
  assert.ok(child.stdin && child.stdout && child.pid !== undefined);
  const { stdin, stdout, pid } = child;
  const waiting: ((answer: unknown) => void)[] = [];
  createInterface({ input: stdout }).on('line', (line) => waiting.shift()?.(JSON.parse(line)));
  child.on('exit', () => {
    for (const answer of waiting.splice(0)) answer({ error: 'it ended' });
  });
  t.after(() => child.kill('SIGKILL'));
  const ask = (words: unknown): Promise<unknown> => {
    const answer = new Promise((done) => waiting.push(done));
    stdin.write(`${JSON.stringify(words)}\n`);
    return answer;
  };
  assert.equal(await ask({ hello: true }), 'hello');
  return { pid, ask, stop: () => child.kill('SIGKILL') };
}

/** A worker defines `answer(words)`. */
const ASKED = `
import { createInterface } from 'node:readline';
createInterface({ input: process.stdin }).on('line', async (line) => {
  const words = JSON.parse(line);
  const said = words.hello ? 'hello' : await answer(words).catch((e) => ({ error: e.stack }));
  process.stdout.write(JSON.stringify(said) + '\\n');
});
process.stdin.on('end', () => process.exit());
`;

/** Serves, and remembers what it got and gave by the number in the header x-n. `answer({dump})` gives it. */
export const SERVER = `
import http from 'node:http';
import { createHash } from 'node:crypto';
const hash = (bytes) => createHash('sha256').update(bytes).digest('hex');
const got = {};
const server = http.createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts);
    const n = Number(request.headers['x-n']);
    const size = Number(request.headers['x-answer'] ?? 0);
    const out = Buffer.alloc(size);
    for (let i = 0; i < size; i += 1) out[i] = n % 3 === 0 ? (i * 7 + n) & 255 : 97 + ((i * 7 + n) % 26);
    got[n] = { method: request.method, url: request.url, body: hash(body), bytes: body.length,
      answer: hash(out), answer_bytes: out.length };
    response.statusCode = 200 + (n % 4);
    response.setHeader('x-n', String(n));
    response.setHeader('set-cookie', ['sid=server-secret-' + n, 'b=2']);
    if (n % 2 === 0) response.setHeader('content-length', out.length);
    for (let at = 0; at < out.length; at += 30000) response.write(out.subarray(at, at + 30000));
    response.end();
  });
});
const open = {};
async function answer(words) {
  if (words.dump) return got;
  if (words.listen === undefined) throw new Error('listen or dump');
  await new Promise((done) => server.listen(words.listen, words.host ?? '127.0.0.1', done));
  return server.address().port;
}
`;

/** Asks `count` requests from \`first\` on; connections are kept alive. */
export const CLIENT = `
import http from 'node:http';
import { createHash } from 'node:crypto';
const hash = (bytes) => createHash('sha256').update(bytes).digest('hex');
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const sizes = [0, 1, 10, 100, 1000, 1448, 5000, 16384, 20000, 65536, 100000];
function one(port, n, words) {
  const size = sizes[n % sizes.length];
  const body = Buffer.alloc(size);
  for (let i = 0; i < size; i += 1) body[i] = n % 5 === 0 ? (i * 3 + n) & 255 : 97 + ((i * 3 + n) % 26);
  const headers = { 'x-n': n, 'x-answer': sizes[(n * 7) % sizes.length],
    authorization: 'Bearer client-secret-' + n, 'content-type': 'application/octet-stream' };
  if (n % 3 === 1 || words.length) headers['content-length'] = size;
  else headers['transfer-encoding'] = 'chunked';
  if (words.close) headers.connection = 'close';
  return new Promise((done, fail) => {
    const request = http.request({ host: words.host ?? '127.0.0.1', port, agent: words.close ? undefined : agent,
      method: 'POST', path: '/things/' + n + '?n=' + n + '&token=query-secret-' + n, headers },
      (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => {
        const got = Buffer.concat(parts);
        done({ n, status: response.statusCode, body: hash(body), bytes: size,
          answer: hash(got), answer_bytes: got.length });
      });
      response.on('error', fail);
    });
    request.on('error', fail);
    for (let at = 0; at < size; at += 7000) request.write(body.subarray(at, at + 7000));
    request.end();
  });
}
async function answer(words) {
  const all = [];
  let next = words.first;
  const lane = async () => {
    while (next < words.first + words.count) {
      const n = next;
      next += 1;
      all.push(await one(words.port, n, words));
    }
  };
  await Promise.all([lane(), lane(), lane(), lane()]);
  return all;
}
`;
