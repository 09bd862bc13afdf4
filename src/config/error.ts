// What the operator got wrong, said so that it can be put right without reading the code: where, which value, the cure.

/** One fault. `where` is `file:line:column`, a variable's name, a flag, or empty when a value is missing everywhere. */
export interface ConfigIssue {
  readonly where: string;
  /** The dotted key, empty when the file as a whole is at fault. */
  readonly key: string;
  /** The offending value as it was written; absent for a secret and for what is missing. */
  readonly value?: string;
  readonly problem: string;
  readonly cure: string;
}

/** The operator is wrong: every fault found, and the exit status for a command that meets it. */
export class ConfigError extends Error {
  readonly code = 'SONDE_CONFIG';
  readonly exit_code = 2;
  readonly issues: readonly ConfigIssue[];

  constructor(issues: readonly ConfigIssue[]) {
    super(issues.map(formatIssue).join('\n'));
    this.name = 'ConfigError';
    this.issues = issues;
  }
}

/** One line: `sonde.yaml:3:13: collector.interval: "10" has no unit; write 10s, 500ms or 1m`. */
export function formatIssue(issue: ConfigIssue): string {
  const parts = [issue.where, issue.key].filter((part) => part !== '');
  const value = issue.value === undefined ? '' : `${issue.value} `;
  return `${[...parts, `${value}${issue.problem}`].join(': ')}; ${issue.cure}`;
}

const VALUE_LENGTH_MAX = 80;

/** A value for a message: quoted, control characters escaped, cut where it is long. */
export function quoteValue(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= VALUE_LENGTH_MAX ? text : `${text.slice(0, VALUE_LENGTH_MAX)}…`;
}
