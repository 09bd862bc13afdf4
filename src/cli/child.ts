// One role as a child process of `sonde run`: started, waited for until it is up, started again when it crashes, stopped
// in order. Children have process groups of their own, so that Ctrl-C reaches the supervisor alone, which knows the order.

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const LAUNCHER = fileURLToPath(new URL('../../sonde', import.meta.url));
const BACKOFF_MS_MIN = 500;
const BACKOFF_MS_MAX = 10_000;
/** A role that lived this long has recovered: the next crash is the first again. */
const HEALTHY_MS = 60_000;

export interface RoleMessage {
  readonly ready?: string;
  readonly [name: string]: unknown;
}

export interface ChildOptions {
  readonly role: string;
  readonly words: readonly string[];
  /** One line for the operator. */
  readonly say: (line: string) => void;
  readonly onReady: (message: RoleMessage) => void;
}

export class Child {
  readonly #options: ChildOptions;
  #process: ChildProcess | undefined;
  #stopping = false;
  #crashes = 0;
  #gone: Promise<number> = Promise.resolve(0);

  constructor(options: ChildOptions) {
    this.#options = options;
  }

  /** Resolves when the role is up: undefined; or when it ended before: its exit status. */
  start(): Promise<number | undefined> {
    const { role, words, onReady } = this.#options;
    const started_ms = performance.now();
    // The launcher knows which flags, and which program, a role takes; it becomes that process itself.
    const child = spawn(LAUNCHER, [role, ...words], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      detached: true,
    });
    this.#process = child;
    return new Promise((resolve) => {
      let up = false;
      child.on('message', (message: RoleMessage) => {
        if (message.ready === undefined) return;
        up = true;
        onReady(message);
        resolve(undefined);
      });
      this.#gone = new Promise((gone) => {
        child.once('exit', (code, signal) => {
          const status = code ?? 1;
          gone(status);
          if (!up) resolve(status);
          else if (!this.#stopping) this.#crashed(signal ?? `exit status ${status}`, started_ms);
        });
      });
    });
  }

  signal(name: NodeJS.Signals): void {
    this.#process?.kill(name);
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** TERM, and KILL if it has not ended by then. Resolves with the exit status. */
  async stop(limit_ms: number): Promise<number> {
    this.#stopping = true;
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return 0;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), limit_ms);
    const status = await this.#gone;
    clearTimeout(timer);
    return status;
  }

  #crashed(how: string, started_ms: number): void {
    this.#crashes = performance.now() - started_ms > HEALTHY_MS ? 1 : this.#crashes + 1;
    const wait = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** (this.#crashes - 1));
    this.#options.say(
      `${this.#options.role} ended (${how}); starting it again in ${wait / 1000} s`,
    );
    setTimeout(() => {
      if (this.#stopping) return;
      void this.start().then((status) => {
        if (status !== undefined && !this.#stopping)
          this.#crashed(`exit status ${status}`, performance.now());
      });
    }, wait);
  }
}
