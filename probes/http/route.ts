// Groups raw request paths into route templates, so that a service with a million users has ten rows, not a million.
//
// One convention: a segment, or the part of it that varies, becomes its kind in braces.
//   {id} digits · {uuid} · {hash} hexadecimal · {date} dates and times · {email} · {token} other words that no human wrote
// An extension and a short prefix of letters stay (`/thumb/{id}.jpg`, `/order-{id}`); query, fragment and path parameters
// (`;a=b`) go; percent-encoding is left as it is. What only looks like a word stays a word: a limit on templates per
// service (`Routes`) holds what this misses. Other braces than these are written `%7B` and `%7D`.

/** What stands for everything beyond a limit. */
export const ROUTE_OTHER = '<other>';
const MORE = '<more>';
/** Of a template; a longer one is cut between segments and ends in `/<more>`. */
export const ROUTE_LENGTH_MAX = 160;
export const ROUTE_SEGMENTS_MAX = 12;
/** A longer segment is a token, whatever it looks like. */
const SEGMENT_LENGTH_MAX = 64;
/** Of a path that is looked at: what is behind it is not read. */
const PATH_LENGTH_MAX = 4096;

const UUID = /^\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?$/i;
const NUMBER = /^[+-]?\d+(?:[.,]\d+)*$/;
const DATE = /^\d{4}-\d{2}(?:-\d{2})?(?:(?:T|%20|_)\d{2}(?:(?::|%3A)?\d{2}){0,2}.{0,14})?$/i;
const HEX = /^(?:0x)?[0-9a-f]+$/i;
const EMAIL = /^[^@\s]+(?:@|%40)[^@\s]+\.[a-z]{2,24}$/i;
const EXTENSION = /^(.+)\.([a-z][a-z0-9]{0,4})$/i;
const PREFIXED = /^([a-z]{1,16}[-_:=~])(.+)$/i;
const TOKEN_CHARACTERS = /^[a-z0-9._~=+%-]+$/i;
/** Fewer hexadecimal digits than this are too often a word, or a part of one. */
const HASH_MIN = 8;
const HASH_OF_LETTERS_MIN = 24;
/** Digits that make `order-1234` an order's number, and leave `utf-8` and `sha-256` as they are. */
const SUFFIX_DIGITS_MIN = 4;
const TOKEN_MIN = 12;
const MIXED_TOKEN_MIN = 16;

/** A segment of a route with a part that varies: what is before it, its kind, what is behind it. */
export const ROUTE_PART = /^([^{]*)\{(id|uuid|hash|date|email|token)\}(.*)$/;

/** With a name for each part that varies: `/users/{id}/orders/{id}` is `/users/{id}/orders/{id2}`. */
export function namedRoute(route: string): { template: string; names: readonly string[] } {
  const names: string[] = [];
  const counts = new Map<string, number>();
  const template = route.replace(/\{([a-z]+)\}/g, (_, kind: string) => {
    const n = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, n);
    const name = n === 1 ? kind : `${kind}${n}`;
    names.push(name);
    return `{${name}}`;
  });
  return { template, names };
}

/** The path of a target, or of a URL; '' where there is none. */
export function pathOf(target: string): string {
  const start = pathStart(target);
  return start < 0 ? '' : target.slice(start, pathEnd(target, start));
}

/** The route template of a request's path (or URL). Equal for its own result; never longer than ROUTE_LENGTH_MAX. */
export function routeOf(path: string): string {
  const whole = path.length > PATH_LENGTH_MAX ? path.slice(0, PATH_LENGTH_MAX) : path;
  const start = pathStart(whole);
  if (start < 0) return whole === '*' || whole === '' ? whole : ROUTE_OTHER;
  let route = '';
  let at = start;
  const end = pathEnd(whole, start);
  for (let n = 0; at < end; n += 1) {
    const slash = whole.indexOf('/', at + 1);
    const next = slash < 0 || slash > end ? end : slash;
    const segment = `/${segmentTemplate(whole.slice(at + 1, next))}`;
    const is_last = next >= end;
    const room = ROUTE_LENGTH_MAX - route.length - (is_last ? 0 : MORE.length + 1);
    if (n >= ROUTE_SEGMENTS_MAX || segment.length > room) return `${route}/${MORE}`;
    route += segment;
    at = next;
  }
  return route;
}

/** Where the path begins: behind scheme and authority, where a URL has them; -1: there is none. */
function pathStart(url: string): number {
  if (url.startsWith('/')) return 0;
  const scheme = /^[a-z][a-z0-9+.-]{0,15}:\/\/[^/?#]*/i.exec(url);
  if (scheme === null) return -1;
  return url[scheme[0].length] === '/' ? scheme[0].length : -1;
}

function pathEnd(url: string, from: number): number {
  for (let i = from; i < url.length; i += 1) {
    const c = url.charCodeAt(i);
    if (c === 0x3f || c === 0x23) return i; // ? #
  }
  return url.length;
}

function segmentTemplate(raw: string): string {
  const semicolon = raw.indexOf(';');
  const segment = withoutBraces(semicolon < 0 ? raw : raw.slice(0, semicolon));
  if (segment.length < 2) return isDigit(segment.charCodeAt(0)) ? '{id}' : segment;
  const whole = kindOf(segment);
  if (whole !== '') return whole;
  const named = EXTENSION.exec(segment);
  const stem = named?.[1] ?? segment;
  const extension = named === null ? '' : `.${named[2]}`;
  const kind = extension === '' ? '' : kindOf(stem);
  if (kind !== '') return `${kind}${extension}`;
  const prefixed = PREFIXED.exec(stem);
  const tail = prefixed === null ? '' : suffixKind(prefixed[2]!);
  if (tail !== '') return `${prefixed![1]}${tail}${extension}`;
  if (isToken(stem)) return `{token}${extension}`;
  return segment.length > SEGMENT_LENGTH_MAX || isToken(segment) ? '{token}' : segment;
}

/** Braces that are no kind would look like a part that varies. */
function withoutBraces(segment: string): string {
  if (!/[{}]/.test(segment) || ROUTE_PART.test(segment) || UUID.test(segment)) return segment;
  return segment.replaceAll('{', '%7B').replaceAll('}', '%7D');
}

function suffixKind(text: string): string {
  const kind = kindOf(text) || (isToken(text) ? '{token}' : '');
  return kind === '{id}' && text.length < SUFFIX_DIGITS_MIN ? '' : kind;
}

/** The kind of a text whose form is certain, in braces; '' for others. */
function kindOf(text: string): string {
  const first = text.charCodeAt(0);
  if (isDigit(first) || first === 0x2b || first === 0x2d) {
    if (NUMBER.test(text)) return '{id}';
    if (DATE.test(text)) return '{date}';
  }
  if (UUID.test(text)) return '{uuid}';
  if (text.length >= HASH_MIN && HEX.test(text) && isHash(text)) return '{hash}';
  return EMAIL.test(text) ? '{email}' : '';
}

/** Words such as `facade` and `deadbeef` are hexadecimal, too. */
function isHash(text: string): boolean {
  return text.length >= HASH_OF_LETTERS_MIN || /\d/.test(text);
}

/**
 * Letters and digits in the disorder that names do not have: digits in three places or more, or both cases and digits
 * within one long word.
 */
function isToken(text: string): boolean {
  if (text.length < TOKEN_MIN || !TOKEN_CHARACTERS.test(text)) return false;
  let digits = 0;
  let groups = 0; // of digits that follow a letter or come first
  let uppers = 0;
  let lowers = 0;
  let run = 0; // the longest part without a separator
  let longest = 0;
  for (let i = 0; i < text.length; i += 1) {
    const c = text.charCodeAt(i);
    const letter = isLower(c) || isUpper(c);
    run = letter || isDigit(c) ? run + 1 : 0;
    longest = Math.max(longest, run);
    if (isLower(c)) lowers += 1;
    if (isUpper(c)) uppers += 1;
    if (!isDigit(c)) continue;
    digits += 1;
    if (i === 0 || !isDigit(text.charCodeAt(i - 1))) groups += 1;
  }
  if (longest < TOKEN_MIN) return false;
  if (groups >= 3 && (lowers > 0 || uppers > 0)) return true;
  return longest >= MIXED_TOKEN_MIN && digits >= 2 && uppers >= 2 && lowers >= 2;
}

function isDigit(c: number): boolean {
  return c >= 0x30 && c <= 0x39;
}

function isLower(c: number): boolean {
  return c >= 0x61 && c <= 0x7a;
}

function isUpper(c: number): boolean {
  return c >= 0x41 && c <= 0x5a;
}

export interface RoutesOptions {
  /** Distinct templates of one service; what comes after is `<other>`. */
  readonly routes_max?: number;
  readonly services_max?: number;
  /** Paths remembered for each service; then it forgets them all, which costs time and nothing else. */
  readonly paths_max?: number;
}

/** The templates of one service. A known path costs one look-up. */
export class ServiceRoutes {
  readonly #routes_max: number;
  readonly #paths_max: number;
  readonly #routes = new Set<string>();
  readonly #paths = new Map<string, string>();
  /** Requests that were answered `<other>` because the service has too many templates. */
  refused = 0;

  constructor(routes_max: number, paths_max: number) {
    this.#routes_max = routes_max;
    this.#paths_max = paths_max;
  }

  get size(): number {
    return this.#routes.size;
  }

  of(path: string): string {
    const known = this.#paths.get(path);
    const route = known ?? this.#learn(path);
    if (route === ROUTE_OTHER) this.refused += 1;
    return route;
  }

  #learn(path: string): string {
    const template = routeOf(path);
    const full = this.#routes.size >= this.#routes_max && !this.#routes.has(template);
    const route = full ? ROUTE_OTHER : template;
    if (route !== ROUTE_OTHER) this.#routes.add(route);
    // Beyond this length the path is not worth remembering: it is nearly certainly another one each time.
    if (path.length > SEGMENT_LENGTH_MAX * ROUTE_SEGMENTS_MAX) return route;
    if (this.#paths.size >= this.#paths_max) this.#paths.clear();
    this.#paths.set(path, route);
    return route;
  }
}

/** The templates of all services, each service with a limit of its own; services beyond `services_max` share one. */
export class Routes {
  readonly #options: Required<RoutesOptions>;
  readonly #services = new Map<string, ServiceRoutes>();
  readonly #rest: ServiceRoutes;

  constructor(options: RoutesOptions = {}) {
    this.#options = { routes_max: 200, services_max: 1000, paths_max: 4096, ...options };
    this.#rest = new ServiceRoutes(this.#options.routes_max, this.#options.paths_max);
  }

  /** Kept by a caller that sees many requests of one service. */
  service(name: string): ServiceRoutes {
    const known = this.#services.get(name);
    if (known !== undefined) return known;
    if (this.#services.size >= this.#options.services_max) return this.#rest;
    const fresh = new ServiceRoutes(this.#options.routes_max, this.#options.paths_max);
    this.#services.set(name, fresh);
    return fresh;
  }

  of(service: string, path: string): string {
    return this.service(service).of(path);
  }

  /** Requests that were answered `<other>`, since the start. */
  get refused(): number {
    let sum = this.#rest.refused;
    for (const { refused } of this.#services.values()) sum += refused;
    return sum;
  }
}
