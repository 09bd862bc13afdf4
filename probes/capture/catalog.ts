// The catalogue of APIs: which operations each service answers, with which parameters and which way of saying who asks.
// Names and kinds only; no value of a parameter goes into it.

import { type Dimension, defineTable, type Measure } from '../../src/table/definition.ts';
import type { Fold } from '../../src/table/fold.ts';
import { headerOf } from '../http/head.ts';
import { namedRoute, pathOf, ROUTE_PART, Routes } from '../http/route.ts';
import type { Exchange } from './connection.ts';
import { boundaryOf, fieldName, formText, headOfPart } from './multipart.ts';
import { kindOfJson, kindOfText, type Personal, personalOf, type ValueKind } from './values.ts';

/** How a request says who asks: the strongest that it carries. */
const AUTHS = ['none', 'basic', 'bearer', 'digest', 'cookie', 'api_key', 'other'] as const;
export type Auth = (typeof AUTHS)[number];

const PLACES = ['', 'path', 'query', 'body'] as const;
export type Place = (typeof PLACES)[number];

const PARAMETERS_MAX = 64; // of one request
const NAME_MAX = 64;
const DEPTH_MAX = 4;
const BODY_MAX = 256 << 10; // a larger one is not looked at
/** Names of parameters of one operation; what comes after is `<other>`. */
const NAMES_MAX = 200;
const OPERATIONS_MAX = 10_000;

const dimensions: readonly Dimension[] = [
  {
    name: 'service',
    type: 'string',
    help: 'process, or container, and local port; of a client: the host asked',
  },
  { name: 'process_name', type: 'string', help: 'file name of the executable' },
  { name: 'container_id', type: 'string', help: 'container, where the cgroup path names one' },
  {
    name: 'role',
    type: 'string',
    values: ['server', 'client', '<other>'],
    help: 'end that was watched',
  },
  { name: 'method', type: 'string', help: 'method of the request' },
  { name: 'route', type: 'string', help: 'path with its varying parts as {kind}' },
  { name: 'auth', type: 'string', help: `how the request says who asks: ${AUTHS.join(', ')}` },
  {
    name: 'place',
    type: 'string',
    help: 'of a parameter: path, query or body; empty: the operation itself',
  },
  {
    name: 'parameter',
    type: 'string',
    help: 'name of the parameter; of a body with dots: user.id',
  },
  { name: 'kind', type: 'string', help: 'kind of its values: integer, uuid, string …' },
  { name: 'personal', type: 'string', help: 'kind of personal data that it hints at, else empty' },
  {
    name: 'media_type',
    type: 'string',
    help: 'of an operation that of the response; of a parameter in a body that of the body',
  },
];

export const apiCatalog = defineTable({
  name: 'api_catalog',
  help: 'operations of HTTP services, and their parameters: a row for each, by way of authentication',
  kind: 'fold',
  rows_max: 16_384,
  dimensions,
  measures: [
    sum('requests', 'requests; of a parameter: those that had it'),
    sum('status_1xx', 'responses with a status from 100'),
    sum('status_2xx', 'from 200'),
    sum('status_3xx', 'from 300'),
    sum('status_4xx', 'from 400'),
    sum('status_5xx', 'from 500'),
    sum('unanswered', 'requests whose response was not seen'),
    { name: 'first_seen', type: 'u64', unit: 'ms', fold: 'min', help: 'milliseconds since 1970' },
    { name: 'last_seen', type: 'u64', unit: 'ms', fold: 'max', help: 'milliseconds since 1970' },
  ],
});

export interface Parameter {
  readonly place: Place;
  readonly name: string;
  readonly kind: ValueKind;
  readonly personal: Personal;
}

/** What is known of the watched end. */
export interface Service {
  readonly process_name: string;
  readonly container_id: string;
  readonly server: boolean;
  readonly port: number;
}

export class Catalog {
  readonly #fold: Fold;
  readonly #routes = new Routes();
  readonly #names = new Map<string, Set<string>>();
  readonly #dims = new Float64Array(dimensions.length);
  readonly #measures = new Float64Array(apiCatalog.measures.length);
  /** Parameters whose names a limit turned away. */
  refused = 0;

  constructor(fold: Fold) {
    this.#fold = fold;
  }

  add(service: Service, { request, response }: Exchange, time_ms: number): void {
    const { head } = request;
    const name = serviceName(service, headerOf(head.headers, 'host'));
    const route = this.#routes.of(name, head.target);
    const type = response === undefined ? '' : mediaType(response.head.headers);
    const texts = [
      name,
      service.process_name,
      service.container_id,
      service.server ? 'server' : 'client',
      head.method,
      route,
      authOf(head.headers),
    ];
    texts.forEach((text, i) => {
      this.#dims[i] = this.#fold.intern(text);
    });
    this.#measure(response?.head.status ?? 0, time_ms);
    this.#row('', '', '', '', type);
    const body_type = mediaType(head.headers);
    const operation = `${name} ${head.method} ${route}`;
    const body = Buffer.from(request.body.buffer, request.body.byteOffset, request.body.length);
    for (const one of parametersOf(head.target, route, head.headers, body)) {
      const type_of = one.place === 'body' ? body_type : '';
      this.#row(one.place, this.#name(operation, one.name), one.kind, one.personal, type_of);
    }
  }

  #measure(status: number, time_ms: number): void {
    this.#measures.fill(0);
    this.#measures[0] = 1;
    const row = Math.floor(status / 100);
    this.#measures[row >= 1 && row <= 5 ? row : 6] = 1;
    this.#measures[7] = time_ms;
    this.#measures[8] = time_ms;
  }

  #row(place: string, name: string, kind: string, personal: string, type: string): void {
    [place, name, kind, personal, type].forEach((text, i) => {
      this.#dims[7 + i] = this.#fold.intern(text);
    });
    this.#fold.add(this.#dims, this.#measures);
  }

  /** Clients choose the names: each operation has a limit. */
  #name(operation: string, name: string): string {
    let names = this.#names.get(operation);
    if (names === undefined) {
      if (this.#names.size >= OPERATIONS_MAX) this.#names.clear();
      names = new Set();
      this.#names.set(operation, names);
    }
    if (names.has(name)) return name;
    if (names.size >= NAMES_MAX) {
      this.refused += 1;
      return '<other>';
    }
    names.add(name);
    return name;
  }
}

/** `shop:8080`; in a container `0123456789ab:8080`; of a client the host that it asks. */
export function serviceName(service: Service, host: string): string {
  const plain = host.length <= 255 && /^[\w.:[\]-]+$/.test(host) ? host.toLowerCase() : '';
  if (!service.server && plain !== '') return plain;
  const who = service.container_id.slice(0, 12) || service.process_name || 'unknown';
  return `${who}:${service.port}`;
}

export function authOf(headers: readonly string[]): Auth {
  const authorization = headerOf(headers, 'authorization').toLowerCase();
  if (authorization.startsWith('bearer ')) return 'bearer';
  if (authorization.startsWith('basic ')) return 'basic';
  if (authorization.startsWith('digest ')) return 'digest';
  if (authorization !== '') return 'other';
  for (let i = 0; i < headers.length; i += 2) {
    if (/^(?:x-)?api-?key$|^x-[a-z-]*token$/i.test(headers[i]!)) return 'api_key';
  }
  return headerOf(headers, 'cookie') === '' ? 'none' : 'cookie';
}

export function parametersOf(
  target: string,
  route: string,
  headers: readonly string[],
  body: Buffer,
): readonly Parameter[] {
  const found = new Map<string, Parameter>();
  const add = (place: Place, name: string, kind: ValueKind, personal: Personal): void => {
    if (found.size >= PARAMETERS_MAX || name === '') return;
    const short = name.slice(0, NAME_MAX);
    found.set(`${place} ${short}`, { place, name: short, kind, personal });
  };
  pathParameters(target, route, add);
  const query = target.indexOf('?');
  if (query >= 0) form(target.slice(query + 1), 'query', add);
  const type = mediaType(headers);
  if (body.length === 0 || body.length > BODY_MAX) return [...found.values()];
  if (type === 'application/x-www-form-urlencoded') form(body.toString('utf8'), 'body', add);
  else if (type === 'multipart/form-data') parts(headerOf(headers, 'content-type'), body, add);
  else if (type.endsWith('json')) json(body.toString('utf8'), add);
  return [...found.values()];
}

type Add = (place: Place, name: string, kind: ValueKind, personal: Personal) => void;

const PATH_KINDS: Readonly<Record<string, ValueKind>> = {
  uuid: 'uuid',
  date: 'date',
  email: 'email',
};

/** The braces of the route, in their order, with the kinds of what stands there: `{id}` is a number, or an address. */
function pathParameters(target: string, route: string, add: Add): void {
  const names = namedRoute(route).names;
  const raw = pathOf(target).split('/');
  let n = 0;
  for (const [i, segment] of route.split('/').entries()) {
    const part = ROUTE_PART.exec(segment);
    if (part === null) continue;
    const [, before = '', kind = '', after = ''] = part;
    const text = raw[i]?.split(';', 1)[0] ?? '';
    const value = formText(text.slice(before.length, text.length - after.length));
    add('path', names[n]!, PATH_KINDS[kind] ?? kindOfText(value), personalOf(kind, value));
    n += 1;
  }
}

function form(text: string, place: Place, add: Add): void {
  for (const part of text.slice(0, BODY_MAX).split('&', PARAMETERS_MAX)) {
    const equals = part.indexOf('=');
    const name = formText(equals < 0 ? part : part.slice(0, equals));
    const value = equals < 0 ? '' : formText(part.slice(equals + 1));
    add(place, name, kindOfText(value), personalOf(name, value));
  }
}

/** A file is named as a field is; of its content nothing is said. */
function parts(type: string, body: Buffer, add: Add): void {
  const text = body.toString('utf8');
  const boundary = boundaryOf(type, text);
  if (boundary === undefined) return;
  for (const part of `\n${text}`.split(`\n${boundary}`, PARAMETERS_MAX + 1)) {
    const found = headOfPart(part);
    const field = /(?:^|\n)content-disposition:([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)/i.exec(
      found?.head ?? '',
    );
    if (found === undefined || field === null) continue;
    const name = fieldName(field[1]!);
    const is_file = /\bfilename/i.test(field[1]!);
    const value = is_file ? '' : part.slice(found.from).trimEnd();
    add('body', name, kindOfText(value), personalOf(name, value));
  }
}

function json(text: string, add: Add): void {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return; // not JSON, or cut
  }
  jsonKeys(value, '', 0, add);
}

function jsonKeys(value: unknown, path: string, depth: number, add: Add): void {
  const one = Array.isArray(value) ? value[0] : value;
  if (depth > DEPTH_MAX || one === null || typeof one !== 'object') return;
  const prefix = path + (Array.isArray(value) ? '[]' : '');
  let keys = 0;
  for (const [key, inner] of Object.entries(one)) {
    keys += 1;
    if (keys > PARAMETERS_MAX) return;
    const name = prefix === '' ? key : `${prefix}.${key}`;
    add('body', name, kindOfJson(inner), personalOf(key, typeof inner === 'string' ? inner : ''));
    jsonKeys(inner, name, depth + 1, add);
  }
}

function mediaType(headers: readonly string[]): string {
  const type = headerOf(headers, 'content-type').split(';', 1)[0]!.trim().toLowerCase();
  return type.length <= 100 && /^[\w.+-]+\/[\w.+-]+$/.test(type) ? type : '';
}

function sum(name: string, help: string): Measure {
  return { name, type: 'u64', unit: '1', fold: 'sum', help };
}
