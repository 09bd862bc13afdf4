// A real server: nginx from Debian, one worker on a core of its own, small answers.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { cpuTimeUs } from './machine.ts';
import { needProgram } from './packages.ts';
import { freePort, makeFolder, Started } from './process.ts';

const BODY = 'The quick brown fox jumps over the lazy dog and runs on through the meadow.';
const PATIENCE_MS = 10_000;

export interface Nginx {
  readonly port: number;
  readonly worker: number;
  /** Processor time of the worker so far, in microseconds. */
  cpuUs(): number;
  /** Requests that it has answered so far, by its own count; asking is one more. */
  requests(): Promise<number>;
  stop(): Promise<void>;
}

function configuration(folder: string, port: number): string {
  return `daemon off;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log;
worker_processes 1;
worker_cpu_affinity 1;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location = /status { stub_status; }
    location / { return 200 "${BODY}\\n"; }
  }
}
`;
}

export async function startNginx(): Promise<Nginx> {
  const program = await needProgram('nginx', 'nginx');
  const folder = makeFolder();
  const port = await freePort();
  const file = join(folder, 'nginx.conf');
  writeFileSync(file, configuration(folder, port));
  const master = new Started(program, ['-p', folder, '-e', join(folder, 'error.log'), '-c', file]);
  const end = Date.now() + PATIENCE_MS;
  let worker: number | undefined;
  while (worker === undefined || !(await answers(port))) {
    if (!master.running || Date.now() > end) throw new Error(`nginx: ${master.complaints}`);
    await delay(20);
    worker = workerOf(master.pid);
  }
  const pid = worker;
  const cpuUs = () => cpuTimeUs(pid);
  const requests = () => answered(port);
  return { port, worker: pid, cpuUs, requests, stop: () => master.stop('SIGQUIT') };
}

/** Third line of the status page: accepted, handled, requests. */
async function answered(port: number): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/status`)).text();
  return Number(text.split('\n')[2]?.trim().split(' ')[2]);
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** The master forks it after it begins to listen. */
function workerOf(master: number): number | undefined {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const worker = pids.find((pid) => {
    try {
      return (
        readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[1] === `${master}`
      );
    } catch {
      return false; // a process that has just ended is none of nginx's
    }
  });
  return worker === undefined ? undefined : Number(worker);
}
