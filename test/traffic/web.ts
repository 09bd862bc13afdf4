// Web servers in Go and in Node that count what they answer.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const FOLDER = fileURLToPath(new URL('./web/', import.meta.url));

/** The command that starts one; the program of Go is built into `folder`. Its first line is its port. */
export async function webServer(kind: 'go' | 'node', folder: string): Promise<readonly string[]> {
  if (kind === 'node') return [process.execPath, join(FOLDER, 'server.ts')];
  const program = join(folder, 'server');
  const env = { ...process.env, GO111MODULE: 'off' };
  await run('go', ['build', '-o', program, join(FOLDER, 'server.go')], { env });
  return [program];
}

/** How many requests it has answered; asking is none. */
export async function answeredBy(port: number): Promise<number> {
  return Number(await (await fetch(`http://127.0.0.1:${port}/count`)).text());
}
