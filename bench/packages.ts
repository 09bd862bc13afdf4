// Programs from Debian that the benchmarks need: installed when missing and allowed, else the benchmark says so.

import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, rmSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { later } from './process.ts';

const FOLDERS = ['/usr/local/bin', '/usr/bin', '/usr/local/sbin', '/usr/sbin'] as const;
const POLICY = '/usr/sbin/policy-rc.d';

const run = promisify(execFile);

/** The path of a program; `undefined`: not on this machine. */
export function findProgram(name: string): string | undefined {
  return FOLDERS.map((folder) => `${folder}/${name}`).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false; // not there, which is the answer
    }
  });
}

/** The path of `program`, after installing Debian's `debian_package` if need be. @throws Error with the cure. */
export async function needProgram(program: string, debian_package: string): Promise<string> {
  const found = findProgram(program);
  if (found !== undefined) return found;
  if (process.getuid?.() !== 0 || findProgram('apt-get') === undefined) {
    throw new Error(`${program} is missing: apt-get install ${debian_package}`);
  }
  process.stderr.write(`installing ${debian_package} …\n`);
  await install(debian_package);
  const installed = findProgram(program);
  if (installed === undefined) throw new Error(`${debian_package} brought no ${program}`);
  return installed;
}

/** With a policy that starts no service: a benchmark needs the program, not a server on port 80. */
async function install(debian_package: string): Promise<void> {
  if (!existsSync(POLICY)) {
    writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
    later(() => rmSync(POLICY, { force: true }));
  }
  const words = ['install', '-qy', '--no-install-recommends', debian_package];
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  try {
    await run('apt-get', words, { env });
  } catch {
    await run('apt-get', ['update', '-q'], { env }); // stale package lists are the usual cause
    await run('apt-get', words, { env });
  }
}
