// `sonde catalog`: the operations of the HTTP services that were seen, as a table, as JSON or as OpenAPI.

import { namedRoute } from '../../probes/http/route.ts';
import { formatTable } from '../table/text.ts';
import { openQuestions } from './asking.ts';
import type { Call } from './call.ts';
import { CliError, EXIT_OPERATOR } from './failure.ts';
import { openApi } from './openapi.ts';
import { type Operation, operationsOf } from './operations.ts';
import { print } from './output.ts';

const FORMATS: readonly string[] = ['table', 'json', 'openapi'];
const PARAMETERS_SHOWN = 6;
/** In an error. */
const SERVICES_SHOWN = 10;

export async function run(call: Call): Promise<number> {
  const format = String(call.options['--format'] ?? 'table');
  if (!FORMATS.includes(format)) {
    throw new CliError(`--format ${format}: take one of ${FORMATS.join(', ')}`, EXIT_OPERATOR);
  }
  const service = call.options['--service'];
  const questions = await openQuestions(call);
  try {
    const only = typeof service === 'string' ? service : undefined;
    const operations = await operationsOf(questions, only);
    print(`${catalogText(format, operations)}\n`);
    return 0;
  } finally {
    await questions.close();
  }
}

/** @throws {CliError} where an OpenAPI document would be of no service, or of several. */
export function catalogText(format: string, operations: readonly Operation[]): string {
  if (format === 'json') return JSON.stringify(operations, null, 2);
  if (format === 'table') return catalogTable(operations);
  const services = [...new Set(operations.map(({ service }) => service))];
  const [only] = services;
  if (only === undefined) throw new CliError('no operation has been seen yet');
  if (services.length > 1) {
    const more = services.length - SERVICES_SHOWN;
    const names = services.slice(0, SERVICES_SHOWN).join(', ');
    const rest = more > 0 ? ` and ${more} more, which \`sonde catalog\` lists` : '';
    throw new CliError(
      `an OpenAPI document is of one service; take one with --service: ${names}${rest}`,
      EXIT_OPERATOR,
    );
  }
  return JSON.stringify(openApi(only, operations), null, 2);
}

export function catalogTable(operations: readonly Operation[]): string {
  if (operations.length === 0) return 'no operations yet';
  const columns = [
    'service',
    'role',
    'method',
    'route',
    'requests',
    'statuses',
    'auth',
    'parameters',
    'last seen',
  ];
  return formatTable(
    columns.map((name) => ({ name })),
    operations.map((one) => [
      one.service,
      one.role,
      one.method,
      namedRoute(one.route).template,
      one.requests,
      Object.entries(one.statuses)
        .map(([status, count]) => `${status}:${count}`)
        .join(' '),
      one.auth.join(' '),
      parametersText(one),
      one.last_seen.slice(0, 19),
    ]),
  );
}

function parametersText({ parameters }: Operation): string {
  const shown = parameters
    .slice(0, PARAMETERS_SHOWN)
    .map(
      ({ name, kinds, personal }) => `${name}:${kinds.join('|')}${personal.length > 0 ? '!' : ''}`,
    );
  const more = parameters.length - shown.length;
  return more > 0 ? `${shown.join(' ')} +${more}` : shown.join(' ');
}
