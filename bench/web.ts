// Servers that do more for a request than nginx: in Go and in Node, on the core that nginx's worker would have.

import { setTimeout as delay } from 'node:timers/promises';
import { answeredBy, webServer } from '../test/traffic/web.ts';
import { cpuTimeUs } from './machine.ts';
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
