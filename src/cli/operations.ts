// The operations of HTTP services, gathered from the rows of `api_catalog`, and of `httpflow` where nothing is captured.

import type { Questions } from './asking.ts';
import { CliError } from './failure.ts';

export interface Parameter {
  readonly place: string;
  readonly name: string;
  readonly kinds: readonly string[];
  readonly personal: readonly string[];
  /** Of a body. */
  readonly media_types: readonly string[];
  readonly requests: number;
}

export interface Operation {
  readonly service: string;
  readonly role: string;
  readonly method: string;
  readonly route: string;
  readonly requests: number;
  /** By class: `2XX`. */
  readonly statuses: Readonly<Record<string, number>>;
  readonly unanswered: number;
  readonly auth: readonly string[];
  readonly media_types: readonly string[];
  readonly parameters: readonly Parameter[];
  /** ISO 8601. */
  readonly first_seen: string;
  readonly last_seen: string;
}

const CLASSES = ['1', '2', '3', '4', '5'] as const;
const STATUS_SUMS = CLASSES.map((one) => `sum(status_${one}xx) AS s${one}`).join(', ');

interface OperationRow {
  readonly service: string;
  readonly role: string;
  readonly method: string;
  readonly route: string;
  readonly requests: number;
  readonly s1: number;
  readonly s2: number;
  readonly s3: number;
  readonly s4: number;
  readonly s5: number;
  readonly unanswered: number;
  readonly auth: readonly string[];
  readonly media_types: readonly string[];
  readonly first_ms: number;
  readonly last_ms: number;
}

interface ParameterRow extends Parameter {
  readonly service: string;
  readonly role: string;
  readonly method: string;
  readonly route: string;
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

function set(column: string): string {
  return `arraySort(groupUniqArrayIf(${column}, ${column} != ''))`;
}

const KEY = 'service, role, method, route';

export async function operationsOf(
  questions: Questions,
  service: string | undefined,
): Promise<readonly Operation[]> {
  const only = service === undefined ? '' : ` AND service = ${quoted(service)}`;
  const rows = await questions.rows<OperationRow>(
    `SELECT ${KEY}, sum(requests) AS requests, ${STATUS_SUMS}, sum(unanswered) AS unanswered,
${set('auth')} AS auth, ${set('media_type')} AS media_types,
min(first_seen) AS first_ms, max(last_seen) AS last_ms
FROM api_catalog WHERE place = ''${only} GROUP BY ${KEY} ORDER BY ${KEY}`,
  );
  const parameters = await questions.rows<ParameterRow>(
    `SELECT ${KEY}, place, parameter AS name, ${set('kind')} AS kinds,
${set('personal')} AS personal, ${set('media_type')} AS media_types, sum(requests) AS requests
FROM api_catalog WHERE place != ''${only} GROUP BY ${KEY}, place, name
ORDER BY ${KEY}, place, name`,
  );
  const captured = merge(rows, parameters);
  const known = new Set(captured.map(keyOf));
  const flows = await flowsOf(questions, service);
  return [...captured, ...flows.filter((one) => !known.has(keyOf(one)))];
}

function merge(
  rows: readonly OperationRow[],
  parameters: readonly ParameterRow[],
): readonly Operation[] {
  const by_key = new Map<string, Parameter[]>();
  for (const row of parameters) {
    const { service: _, role: __, method: ___, route: ____, ...parameter } = row;
    const list = by_key.get(keyOf(row)) ?? [];
    by_key.set(keyOf(row), list);
    list.push({ ...parameter, requests: Number(parameter.requests) });
  }
  return rows.map((row) => toOperation(row, by_key.get(keyOf(row)) ?? []));
}

function toOperation(row: OperationRow, parameters: readonly Parameter[]): Operation {
  const counts = [row.s1, row.s2, row.s3, row.s4, row.s5].map(Number);
  const statuses = counts.flatMap((count, i) => (count > 0 ? [[`${i + 1}XX`, count]] : []));
  return {
    service: row.service,
    role: row.role,
    method: row.method,
    route: row.route,
    requests: Number(row.requests),
    statuses: Object.fromEntries(statuses),
    unanswered: Number(row.unanswered),
    auth: row.auth,
    media_types: row.media_types,
    parameters,
    first_seen: new Date(Number(row.first_ms)).toISOString(),
    last_seen: new Date(Number(row.last_ms)).toISOString(),
  };
}

function keyOf(row: { service: string; role: string; method: string; route: string }): string {
  return [row.service, row.role, row.method, row.route].join('\n');
}

/** What the counting of all HTTP requests knows: routes without parameters. */
async function flowsOf(
  questions: Questions,
  service: string | undefined,
): Promise<readonly Operation[]> {
  try {
    const rows = await questions.rows<OperationRow>(flowsSql(service));
    return merge(rows, []);
  } catch (error) {
    if (error instanceof CliError) return []; // a reducer without that table
    throw error;
  }
}

function flowsSql(service: string | undefined): string {
  const only = service === undefined ? '' : ` WHERE service = ${quoted(service)}`;
  const status = CLASSES.map(
    (one) => `sumIf(n, intDiv(status_code, 100) = ${one}) AS s${one}`,
  ).join(', ');
  return `SELECT ${KEY}, sum(n) AS requests, ${status},
sumIf(n, status_code = 0) AS unanswered, emptyArrayString() AS auth,
emptyArrayString() AS media_types,
toUnixTimestamp(min(time)) * 1000 AS first_ms, toUnixTimestamp(max(time)) * 1000 AS last_ms
FROM (SELECT concat(if(container_id != '', substring(container_id, 1, 12), process_name), ':',
toString(src_port)) AS service, 'server' AS role, method, route, status_code,
\`count\` AS n, time FROM httpflow WHERE direction = 'incoming')${only}
GROUP BY ${KEY} ORDER BY ${KEY}`;
}
