// Runs the programs that set-up needs, to their end, and says in words what failed.

import { spawn } from 'node:child_process';

export interface Ran {
  readonly status: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: Buffer;
  readonly cwd?: string;
  /** Statuses besides 0 that are no failure. */
  readonly accept?: (ran: Ran) => boolean;
}

/** Runs `command` and returns what it wrote. Throws an error that quotes the command and the end of its stderr. */
export function run(command: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const [file, ...args] = command;
    const child = spawn(file, args, {
      cwd: options.cwd,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.on('error', (cause) => reject(new Error(`Cannot start ${file}`, { cause })));
    child.on('close', (code) => {
      const ran = {
        status: code ?? 1,
        stdout: Buffer.concat(out),
        stderr: Buffer.concat(err).toString(),
      };
      if (ran.status === 0 || options.accept?.(ran)) resolve(ran);
      else
        reject(new Error(`Command failed with ${ran.status}: ${command.join(' ')}\n${tail(ran)}`));
    });
    // a program that stops reading early says so by its status, not by a broken pipe here
    child.stdin.on('error', () => child.stdin.destroy());
    child.stdin.end(options.input);
  });
}

function tail(ran: Ran): string {
  const said = ran.stderr.trim() || ran.stdout.toString().trim();
  return said.split('\n').slice(-15).join('\n');
}

/** One word of a POSIX shell command line that means exactly `text`. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
