// Operations of one service as an OpenAPI 3.1 document: what was seen, so that what is not in it may still be there.

import { namedRoute } from '../../probes/http/route.ts';
import type { Operation, Parameter } from './operations.ts';

type Json = { readonly [key: string]: unknown };

const METHODS = new Set(['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace']);

const SCHEMES: Readonly<Record<string, Json>> = {
  basic: { type: 'http', scheme: 'basic' },
  bearer: { type: 'http', scheme: 'bearer' },
  digest: { type: 'http', scheme: 'digest' },
  cookie: { type: 'apiKey', in: 'cookie', name: 'session' },
  api_key: { type: 'apiKey', in: 'header', name: 'x-api-key' },
  other: {
    ...{ type: 'apiKey', in: 'header', name: 'authorization' },
    description: 'A way of authorization that is none of basic, bearer and digest',
  },
};

interface Node {
  kinds: Set<string>;
  personal: Set<string>;
  properties: Map<string, Node>;
  items: Node | undefined;
}

interface PathItem {
  readonly template: string;
  readonly names: readonly string[];
  readonly operations: Map<string, Operation[]>;
}

export function openApi(service: string, operations: readonly Operation[]): Json {
  const items = new Map<string, PathItem>();
  const beyond: string[] = [];
  for (const operation of operations) {
    const method = operation.method.toLowerCase();
    if (METHODS.has(method) && operation.route.startsWith('/')) place(items, method, operation);
    else beyond.push(`${operation.method} ${operation.route}`);
  }
  const schemes = new Set(operations.flatMap(({ auth }) => auth.filter((one) => one in SCHEMES)));
  return {
    openapi: '3.1.0',
    info: {
      title: service,
      version: 'observed',
      description: 'Made by sonde of requests that were seen; no value of a parameter is in it.',
    },
    ...(beyond.length > 0 && { 'x-sonde-other-operations': beyond }),
    paths: Object.fromEntries([...items.values()].map((item) => [item.template, pathItem(item)])),
    components: {
      securitySchemes: Object.fromEntries([...schemes].sort().map((one) => [one, SCHEMES[one]])),
    },
  };
}

/** Templates that differ in the names of their parts alone are one path to OpenAPI: the first names them. */
function place(items: Map<string, PathItem>, method: string, operation: Operation): void {
  const { template, names } = namedRoute(operation.route.replaceAll('<more>', '{more}'));
  const shape = template.replace(/\{[^}]*\}/g, '{}');
  const item = items.get(shape) ?? { template, names, operations: new Map() };
  items.set(shape, item);
  item.operations.set(method, [...(item.operations.get(method) ?? []), operation]);
}

function pathItem({ names, operations }: PathItem): Json {
  const methods = [...operations].map(([method, list]) => [method, operationObject(names, list)]);
  return Object.fromEntries(methods);
}

function operationObject(names: readonly string[], list: readonly Operation[]): Json {
  const requests = list.reduce((sum, one) => sum + one.requests, 0);
  const body = list.flatMap((one) => one.parameters.filter(({ place: at }) => at === 'body'));
  const auth = [...new Set(list.flatMap((one) => one.auth))].filter(
    (one) => one in SCHEMES || one === 'none',
  );
  const parameters = [...pathParameters(names, list), ...queryParameters(list, requests)];
  return {
    ...(parameters.length > 0 && { parameters }),
    ...(body.length > 0 && { requestBody: requestBody(body) }),
    responses: responses(list),
    ...(auth.length > 0 && { security: auth.map((one) => (one === 'none' ? {} : { [one]: [] })) }),
    'x-sonde-requests': requests,
    'x-sonde-first-seen': list.map((one) => one.first_seen).sort()[0],
    'x-sonde-last-seen': list
      .map((one) => one.last_seen)
      .sort()
      .at(-1),
  };
}

function pathParameters(names: readonly string[], list: readonly Operation[]): Json[] {
  return names.map((name, i) => {
    const kinds = new Set<string>();
    for (const one of list) {
      const own = namedRoute(one.route).names[i]; // whatever this route calls it
      const found = one.parameters.find(({ place: at, name: n }) => at === 'path' && n === own);
      for (const kind of found?.kinds ?? ['string']) kinds.add(kind);
    }
    return { name, in: 'path', required: true, schema: schemaOfKinds([...kinds].sort()) };
  });
}

function queryParameters(list: readonly Operation[], requests: number): Json[] {
  const found = new Map<string, { node: Node; requests: number }>();
  for (const one of list.flatMap(({ parameters }) => parameters)) {
    if (one.place !== 'query') continue;
    const entry = found.get(one.name) ?? { node: emptyNode(), requests: 0 };
    found.set(one.name, entry);
    note(entry.node, one);
    entry.requests += one.requests;
  }
  return [...found].map(([name, { node, requests: had }]) => ({
    name,
    in: 'query',
    required: had >= requests,
    schema: schemaOf(node),
  }));
}

function requestBody(parameters: readonly Parameter[]): Json {
  const root = emptyNode();
  root.kinds.add('object');
  for (const one of parameters) note(nodeAt(root, one.name), one);
  const types = new Set(parameters.flatMap((one) => one.media_types));
  const schema = schemaOf(root);
  const list = types.size === 0 ? ['application/json'] : [...types].sort();
  return { content: Object.fromEntries(list.map((type) => [type, { schema }])) };
}

/** `user.id` is within `user`; `items[].sku` is within each of `items`. */
function nodeAt(root: Node, name: string): Node {
  let node = root;
  for (const part of name.split('.')) {
    const is_list = part.endsWith('[]');
    const key = is_list ? part.slice(0, -2) : part;
    if (key !== '') {
      const next = node.properties.get(key) ?? emptyNode();
      node.properties.set(key, next);
      node = next;
    }
    if (is_list) {
      node.items ??= emptyNode();
      node = node.items;
    }
  }
  return node;
}

function emptyNode(): Node {
  return { kinds: new Set(), personal: new Set(), properties: new Map(), items: undefined };
}

function note(node: Node, { kinds, personal }: Parameter): void {
  for (const kind of kinds) node.kinds.add(kind);
  for (const one of personal) node.personal.add(one);
}

function schemaOf(node: Node): Json {
  const kinds = new Set(node.kinds);
  if (node.properties.size > 0) kinds.add('object');
  if (node.items !== undefined) {
    kinds.add('array');
    if (node.properties.size === 0 && node.kinds.size === 1) kinds.delete('object');
  }
  const properties = [...node.properties].map(([key, inner]) => [key, schemaOf(inner)]);
  return {
    ...schemaOfKinds([...kinds].sort()),
    ...(properties.length > 0 && { properties: Object.fromEntries(properties) }),
    ...(node.items !== undefined && { items: schemaOf(node.items) }),
    ...(node.personal.size > 0 && { 'x-sonde-personal-data': [...node.personal].sort() }),
  };
}

const FORMATS: ReadonlySet<string> = new Set(['uuid', 'email', 'date']);

function schemaOfKinds(kinds: readonly string[]): Json {
  const types = [...new Set(kinds.map((kind) => (FORMATS.has(kind) ? 'string' : kind)))].filter(
    (type) => type !== 'integer' || !kinds.includes('number'),
  );
  const [only] = kinds;
  if (types.length === 0) return {};
  return {
    type: types.length === 1 ? types[0] : types,
    ...(kinds.length === 1 && only !== undefined && FORMATS.has(only) && { format: only }),
  };
}

function responses(list: readonly Operation[]): Json {
  const sums = new Map<string, number>();
  for (const one of list) {
    for (const [status, count] of Object.entries(one.statuses)) {
      sums.set(status, (sums.get(status) ?? 0) + count);
    }
  }
  if (sums.size === 0) return { default: { description: 'No response was seen' } };
  const types = [...new Set(list.flatMap((one) => one.media_types))].sort();
  const content = Object.fromEntries(types.map((type) => [type, {}]));
  return Object.fromEntries(
    [...sums].sort().map(([status, count]) => [
      status,
      {
        description: `Seen ${count} times`,
        ...(types.length > 0 && status === '2XX' && { content }),
      },
    ]),
  );
}
