// What the loads are put on: nginx, or servers that do more for a request, in Go and in Node, on the same core.

import { setTimeout as delay } from 'node:timers/promises';
import { answeredBy, webServer } from '../test/traffic/web.ts';
import { cpuTimeUs } from './machine.ts';
import { startNginx } from './nginx.ts';
import { needProgram } from './packages.ts';
import { makeFolder, Started } from './process.ts';

/** What a load is put on. */
export interface Server {
  readonly port: number;
  /** Processor time so far, in microseconds. */
  cpuUs(): number;
  /** Requests that it has answered so far, by its own count. */
  requests(): Promise<number>;
}

export async function startWeb(kind: 'go' | 'node'): Promise<Server> {
  if (kind === 'go') await needProgram('go', 'golang-go');
  const command = await webServer(kind, makeFolder());
  const server = new Started('taskset', ['-c', '0', ...command]);
  while (!server.output.includes('\n')) {
    if (!server.running) throw new Error(`the server in ${kind}: ${server.complaints}`);
    await delay(20);
  }
  const port = Number(server.output);
  return { port, cpuUs: () => cpuTimeUs(server.pid), requests: () => answeredBy(port) };
}

/** The one that `--server go` or `--server node` asks for; else nginx. */
export function startAskedServer(): Promise<Server> {
  const asked = process.argv[process.argv.indexOf('--server') + 1];
  return asked === 'go' || asked === 'node' ? startWeb(asked) : startNginx();
}

/** Of each `--sources tcp,udp,dns` on the command line. */
export function askedSources(): readonly (readonly string[])[] {
  return askedLists('--sources');
}

/** The lists behind a flag, as often as it is given. */
export function askedLists(flag: string): readonly (readonly string[])[] {
  return process.argv.flatMap((word, i, words) => (words[i - 1] === flag ? [word.split(',')] : []));
}
