// From an error to words and an exit status: 2 where the operator or the machine has to be put right, 1 for the rest.

import { BpfError } from '../bpf/error.ts';
import { ConfigError } from '../config/error.ts';
import { safeLines } from '../table/text.ts';

export const EXIT_FAILED = 1;
export const EXIT_OPERATOR = 2;

/** A command's own refusal, told in one line. */
export class CliError extends Error {
  readonly exit_code: number;

  constructor(message: string, exit_code: number = EXIT_FAILED) {
    super(message);
    this.name = 'CliError';
    this.exit_code = exit_code;
  }
}

/** Prints what went wrong and returns the exit status. */
export function describeFailure(error: unknown): number {
  if (error instanceof ConfigError) return say(error.message, error.exit_code);
  if (error instanceof CliError) return say(error.message, error.exit_code);
  if (error instanceof BpfError) return say(bpfWords(error), EXIT_OPERATOR);
  if (error instanceof Error && 'cure' in error) return say(error.message, EXIT_OPERATOR);
  if (error instanceof Error && 'syscall' in error) return say(error.message, EXIT_OPERATOR);
  return say(error instanceof Error ? (error.stack ?? error.message) : String(error), EXIT_FAILED);
}

function say(message: string, status: number): number {
  for (const line of safeLines(message).trimEnd().split('\n'))
    process.stderr.write(`sonde: ${line}\n`);
  return status;
}

function bpfWords(error: BpfError): string {
  const log = error.log === '' ? '' : `\n${error.log.trimEnd()}`;
  return `${error.message}${log}\nsonde doctor says what this machine lacks`;
}
