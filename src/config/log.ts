// Where log lines go: a file, standard error, or both; JSON, or one line for people. Writing is synchronous: what was
// logged before a crash is on disk. A file that cannot be written costs one warning, then standard error takes over.

import { closeSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import pino from 'pino';
import { safeLines } from '../table/text.ts';
import type { Config } from './schema.ts';

export interface Log {
  readonly logger: pino.Logger;
  /** After a rotation: goes on in a new file of the same name. */
  readonly reopen: () => void;
  readonly setLevel: (level: Config['log']['level']) => void;
}

export interface LogOptions {
  /** The role, in every line. */
  readonly name: string;
  /** For tests; standard error by default. */
  readonly console?: { write: (line: string) => unknown; isTTY?: boolean };
}

export function openLog(config: Config['log'], options: LogOptions): Log {
  const out = options.console ?? process.stderr;
  const for_people = config.format === 'line' || (config.format === 'auto' && out.isTTY === true);
  const console_stream = {
    write: (line: string) => out.write(for_people ? personLine(line) : line),
  };
  const file = config.file ? new LogFile(config.file_path, console_stream) : undefined;
  const streams = [
    ...(file ? [{ level: 'trace' as const, stream: file }] : []),
    // Without any place to write to, a fault at start would pass unseen.
    ...(config.console || !file ? [{ level: 'trace' as const, stream: console_stream }] : []),
  ];
  const logger = pino(
    { name: options.name, level: config.level, base: { pid: process.pid }, timestamp: isoTime },
    pino.multistream(streams),
  );
  file?.start(logger, config.console);
  return {
    logger,
    reopen: () => file?.reopen(),
    setLevel: (level) => {
      logger.level = level;
    },
  };
}

function isoTime(): string {
  return `,"time":"${new Date().toISOString()}"`;
}

type Stream = { write: (line: string) => unknown };

/** The log file, and standard error in its place while the file cannot be written. */
class LogFile implements Stream {
  readonly #path: string;
  readonly #fallback: Stream;
  #file: ReturnType<typeof pino.destination> | undefined;
  #logger: pino.Logger | undefined;
  /** Standard error gets the lines anyway: the fallback would write each twice. */
  #doubled = false;

  constructor(path: string, fallback: Stream) {
    this.#path = path;
    this.#fallback = fallback;
  }

  start(logger: pino.Logger, doubled: boolean): void {
    this.#logger = logger;
    this.#doubled = doubled;
    this.reopen();
  }

  reopen(): void {
    this.#file?.destroy();
    this.#file = undefined;
    try {
      // Opened here first: the destination reports a failure to open only later.
      closeSync(openSync(this.#path, 'a', 0o640));
    } catch (error) {
      this.#fail(error);
      return;
    }
    const file = pino.destination({ dest: this.#path, sync: true, mode: 0o640 });
    // A full disk: the line is lost to the file, and those that follow go to standard error until a reopen.
    file.on('error', (error: unknown) => {
      if (this.#file !== file) return;
      this.#file = undefined;
      this.#fail(error);
    });
    this.#file = file;
  }

  write(line: string): void {
    if (this.#file) this.#file.write(line);
    else if (!this.#doubled) this.#fallback.write(line);
  }

  #fail(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    const cure = `give a file in a folder that this user may write (now ${dirname(this.#path)}), or --no-log-file`;
    this.#logger?.warn(
      { reason, cure },
      `Cannot write the log file ${this.#path}, using standard error`,
    );
  }
}

const LEVEL_NAMES: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};
/** Of no interest to a person at the terminal. */
const HIDDEN = new Set(['level', 'time', 'pid', 'name', 'msg']);

/** `12:34:56 WARN  kernel-collector: Cannot … (reason=…, cure=…)` */
export function personLine(json: string): string {
  const entry: unknown = JSON.parse(json);
  if (typeof entry !== 'object' || entry === null) return json;
  const fields = new Map(Object.entries(entry));
  const level = (LEVEL_NAMES[Number(fields.get('level'))] ?? 'INFO').padEnd(5);
  const rest = [...fields]
    .filter(([name]) => !HIDDEN.has(name))
    .map(([k, v]) => `${k}=${shown(v)}`);
  const details = rest.length > 0 ? ` (${rest.join(', ')})` : '';
  const time = String(fields.get('time')).slice(11, 19);
  return safeLines(
    `${time} ${level} ${fields.get('name')}: ${fields.get('msg') ?? ''}${details}\n`,
  );
}

function shown(value: unknown): string {
  return typeof value === 'string' && !/[\s,"=]/.test(value) ? value : JSON.stringify(value);
}
