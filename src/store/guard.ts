// Which SQL a user may run. The engine's `readonly=1` refuses writes, changes of settings and most table functions; these
// it lets pass in the embedded engine (tried with 26.7): INTO OUTFILE writes files, the scalar function file() and DESCRIBE
// of a table function read them, KILL QUERY ends others' queries. So a text must also pass here, before the engine sees it.

import { failure, positionAt, type StoreFailure } from './failure.ts';

/** A statement starts with one of these and is alone. */
const STATEMENTS: ReadonlySet<string> = new Set([
  'select',
  'from',
  'with',
  'show',
  'describe',
  'desc',
  'explain',
  'exists',
]);

/** Words that have no place in a reading statement of ours, wherever they stand. */
const WORDS_REFUSED: ReadonlySet<string> = new Set(['outfile', 'infile']);

/** Table functions that touch nothing outside the store. Everything else after FROM must be a table. */
const TABLE_FUNCTIONS_ALLOWED: ReadonlySet<string> = new Set([
  'numbers',
  'numbers_mt',
  'zeros',
  'zeros_mt',
  'generate_series',
  'generateseries',
  'values',
  'view',
  'null',
  'merge',
  'viewifpermitted',
]);

const REACHES = 'it reaches beyond the store';
const TELLS = 'it tells of the engine, not of what is stored';

/** Names that are refused wherever they are called, and why. */
const CALLS_REFUSED: readonly (readonly [RegExp, string])[] = [
  [/^(file|url|executable|input|filesystem|python|sqlite|redis|jdbc|odbc|mysql|mongodb)$/, REACHES],
  [/^(postgresql|ytsaurus|arrowstream|hdfs|oss|gcs|cosn|dictionary)$/, REACHES],
  [/^(s3|azureblobstorage|deltalake|iceberg|hudi|paimon|remote|prometheusquery)/, REACHES],
  [/cluster(allreplicas)?$|^cluster/, REACHES],
  [/^(catboostevaluate|naivebayes|ai|llm)/, REACHES],
  [/^(dict|joinget)/, 'the store has no dictionaries and no tables for it'],
  [/^(eval|fuzzquery|viewexplain)$/, 'it makes a query of a text'],
  [/^(sleep|loop$)/, 'it takes time and finds out nothing'],
  [/^(trap|aggthrow|throwif|timeseriesthrow)/, 'it is there to fail'],
  [/^(demangle|addressto|__)/, TELLS],
  [/^get(setting|macro|serverport|serversetting|clienthttpheader)/, TELLS],
];

const SQL_LENGTH_MAX = 64 * 1024;

interface Token {
  readonly kind: 'word' | 'quoted' | 'value' | 'other';
  /** Lower case for words; without its quotes for a quoted name. */
  readonly text: string;
  readonly at: number;
}

/** A name in quotes with an escape inside is refused: what the engine would make of it is not ours to guess. */
const TOKEN = new RegExp(
  [
    '(?<space>[ \\t\\r\\n]+|--[^\\n]*|#[! ][^\\n]*|/\\*[^]*?\\*/)',
    "(?<text>'(?:[^'\\\\]|\\\\[^]|'')*')",
    '(?<quoted>`[^`\\\\]*`|"[^"\\\\]*")',
    '(?<word>[A-Za-z_][A-Za-z0-9_]*)',
    '(?<number>[0-9][0-9a-zA-Z_]*)',
    '(?<other>[^])',
  ].join('|'),
  'g',
);

/** The text without what follows its end (`;`), so that a FORMAT can be added. */
export function withoutEnd(sql: string): string {
  const last = [...tokensOf(sql)].pop();
  return last?.kind === 'other' && last.text === ';' ? sql.slice(0, last.at) : sql;
}

/** Why a text is refused, with the place; undefined if it may run. */
export function refusal(sql: string): StoreFailure | undefined {
  if (sql.length > SQL_LENGTH_MAX) {
    return failure('refused', `The query is longer than ${SQL_LENGTH_MAX} characters`);
  }
  const tokens = [...tokensOf(sql)];
  const first = tokens[0];
  if (first === undefined) return failure('syntax', 'The query is empty');
  const at = (token: Token, message: string): StoreFailure => ({
    ...failure('refused', message),
    position: positionAt(sql, token.at),
  });
  if (first.text !== '(' && (first.kind !== 'word' || !STATEMENTS.has(first.text))) {
    return at(first, `Only reading is allowed: "${first.text}" is no SELECT, SHOW or DESCRIBE`);
  }
  for (const [i, token] of tokens.entries()) {
    const problem = tokenProblem(token, tokens.slice(i + 1, i + 3), tokens[i - 1]);
    if (problem !== undefined) return at(token, problem);
  }
  return undefined;
}

/** `after`: the tokens that follow. */
function tokenProblem(
  token: Token,
  after: readonly Token[],
  before: Token | undefined,
): string | undefined {
  const [next] = after;
  if (token.kind === 'other') return otherProblem(token, next);
  if (token.kind === 'value') return undefined;
  const name = token.text.toLowerCase();
  const isCall = next?.text === '(' && next.kind === 'other';
  if (token.kind === 'word' && before?.text !== '.' && !isCall) {
    if (WORDS_REFUSED.has(name)) return `${name.toUpperCase()} is not allowed here`;
    if (name === 'settings' && opensSettings(after, before)) return 'SETTINGS is not allowed here';
    if (name === 'format' && opensFormat(after, before)) {
      return 'FORMAT is chosen outside the query (--format)';
    }
  }
  if (!isCall) return undefined;
  const refused = CALLS_REFUSED.find(([pattern]) => pattern.test(name));
  if (refused !== undefined) return `Function ${token.text}() is not allowed: ${refused[1]}`;
  const isKeyword = token.kind === 'word' && KEYWORDS.has(name);
  const afterFrom = before?.kind === 'word' && TABLE_POSITIONS.has(before.text) && !isKeyword;
  if (afterFrom && !TABLE_FUNCTIONS_ALLOWED.has(name)) {
    const allowed = [...TABLE_FUNCTIONS_ALLOWED].join(', ');
    return `Table function ${token.text}() is none of those that are allowed: ${allowed}`;
  }
  return undefined;
}

/** `… SETTINGS name = value`, or the name alone; and no column or alias of that name. */
function opensSettings([name, sign]: readonly Token[], before: Token | undefined): boolean {
  if (name?.kind !== 'word' && name?.kind !== 'quoted') return false;
  if (sign?.text === '=') return true;
  return endsTerm(before) && (sign === undefined || [',', ';', ')'].includes(sign.text));
}

/** `… FORMAT name` at the end. What passes here and is no column, the engine does not understand: our own follows. */
function opensFormat([name, end]: readonly Token[], before: Token | undefined): boolean {
  return name?.kind === 'word' && (end === undefined || end.text === ';') && endsTerm(before);
}

/** After it comes a clause, not a column. */
function endsTerm(token: Token | undefined): boolean {
  if (token?.kind === 'word') return !COLUMN_FOLLOWS.has(token.text);
  return token !== undefined && (token.kind !== 'other' || /[)\]*]/.test(token.text));
}

/** Words after which a name is a column, or one that is given. */
const COLUMN_FOLLOWS: ReadonlySet<string> = new Set([
  ...['select', 'distinct', 'as', 'by', 'and', 'or', 'not', 'where', 'having', 'on'],
]);

/** Words after which a name with a parenthesis is a table function. */
const TABLE_POSITIONS: ReadonlySet<string> = new Set([
  'from',
  'join',
  'table',
  'describe',
  'desc',
  'function',
]);

/**
 * Words that go on behind a column with such a name (`table IN (…)`) or behind DESC, before a parenthesis. No table function
 * is called so.
 */
const KEYWORDS: ReadonlySet<string> = new Set([
  ...['in', 'not', 'and', 'or', 'like', 'ilike', 'regexp', 'between', 'div', 'mod'],
  ...['from', 'where', 'prewhere', 'having', 'qualify', 'limit', 'offset', 'on', 'using'],
  ...['when', 'then', 'else', 'union', 'intersect', 'except'],
]);

function otherProblem(token: Token, next?: Token): string | undefined {
  if (token.text === ';' && next !== undefined) return 'One statement at a time';
  if (token.text === '`' || token.text === '"' || token.text === "'") {
    return `A quote that does not end, or an escape in a quoted name: ${token.text}`;
  }
  // Bare names are ASCII. The engine knows other spaces and quotes, which would hide a name from us; "$$" quotes too.
  if (token.text === '$' || !/^[ -~]$/.test(token.text)) {
    return `Character ${JSON.stringify(token.text)} is not allowed outside quotes`;
  }
  return undefined;
}

function* tokensOf(sql: string): Generator<Token> {
  for (const match of sql.matchAll(TOKEN)) {
    const { space, text, quoted, word, number } = match.groups ?? {};
    if (space !== undefined) continue;
    const at = match.index;
    if (text !== undefined || number !== undefined) {
      yield { kind: 'value', text: '', at };
      continue;
    }
    if (quoted !== undefined) yield { kind: 'quoted', text: quoted.slice(1, -1), at };
    else if (word !== undefined) yield { kind: 'word', text: word.toLowerCase(), at };
    else yield { kind: 'other', text: match[0], at };
  }
}
