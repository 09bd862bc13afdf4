// Operations → OpenAPI 3.1, held against the rules of its structure that this document can break.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { openApi } from './openapi.ts';
import type { Operation, Parameter } from './operations.ts';

const SEED = { seed: 20_261_126, numRuns: 200 };

type Json = Record<string, unknown>;

function operation(method: string, route: string, more: Partial<Operation> = {}): Operation {
  return {
    ...{ service: 'shop:80', role: 'server', method, route, requests: 10, unanswered: 0 },
    ...{ statuses: { '2XX': 9, '4XX': 1 }, auth: ['none'], media_types: [], parameters: [] },
    ...{ first_seen: '2026-01-01T00:00:00.000Z', last_seen: '2026-01-02T00:00:00.000Z' },
    ...more,
  };
}

function parameter(place: string, name: string, kinds: string[], requests = 10): Parameter {
  return { place, name, kinds, personal: [], media_types: [], requests };
}

const TYPES = ['integer', 'number', 'boolean', 'null', 'string', 'array', 'object'];

/** A schema of JSON Schema 2020-12, as far as this document uses it. */
function checkSchema(schema: Json): void {
  const allowed = ['type', 'format', 'properties', 'items', 'x-sonde-personal-data'];
  for (const key of Object.keys(schema)) assert.ok(allowed.includes(key), key);
  const types = [schema.type ?? []].flat();
  assert.ok(types.every((one) => typeof one === 'string' && TYPES.includes(one)));
  assert.equal(new Set(types).size, types.length);
  if (Array.isArray(schema.type)) assert.ok(schema.type.length > 0);
  for (const inner of Object.values((schema.properties ?? {}) as Json)) checkSchema(inner as Json);
  if (schema.items !== undefined) checkSchema(schema.items as Json);
}

function checkParameters(template: string, parameters: readonly Json[]): void {
  const inPath = parameters.filter((one) => one.in === 'path');
  const names = [...template.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name);
  assert.deepEqual(
    inPath.map(({ name }) => name),
    names,
  );
  assert.equal(new Set(names).size, names.length);
  for (const one of parameters) {
    assert.ok(typeof one.name === 'string' && (one.in === 'path' || one.in === 'query'));
    assert.ok(one.in !== 'path' || one.required === true);
    checkSchema(one.schema as Json);
  }
  const keys = parameters.map((one) => `${one.in} ${one.name}`);
  assert.equal(new Set(keys).size, keys.length);
}

function checkDocument(document: Json): void {
  const { openapi, info, paths, components } = document as Record<string, Json>;
  assert.equal(openapi, '3.1.0');
  assert.ok(typeof info?.title === 'string' && typeof info.version === 'string');
  const shapes = Object.keys(paths!).map((path) => path.replace(/\{[^}]*\}/g, '{}'));
  assert.equal(new Set(shapes).size, shapes.length, 'templates that are the same to OpenAPI');
  const schemes = Object.keys((components?.securitySchemes ?? {}) as Json);
  for (const [template, item] of Object.entries(paths!)) {
    assert.ok(template.startsWith('/') && !template.includes('<') && !template.includes('?'));
    for (const [method, one] of Object.entries(item as Record<string, Json>)) {
      assert.match(method, /^(get|put|post|delete|options|head|patch|trace)$/);
      checkParameters(template, (one.parameters ?? []) as Json[]);
      const responses = Object.entries(one.responses as Record<string, Json>);
      assert.ok(responses.length > 0);
      for (const [status, response] of responses) {
        assert.match(status, /^(default|[1-5]XX)$/);
        assert.equal(typeof response.description, 'string');
      }
      for (const need of (one.security ?? []) as Json[]) {
        for (const scheme of Object.keys(need)) assert.ok(schemes.includes(scheme));
      }
      const content = ((one.requestBody as Json)?.content ?? {}) as Record<string, Json>;
      for (const [type, media] of Object.entries(content)) {
        assert.match(type, /^[\w.+-]+\/[\w.+-]+$/);
        checkSchema(media.schema as Json);
      }
    }
  }
}

test('an operation with everything', () => {
  const document = openApi('shop:80', [
    operation('POST', '/users/{id}/orders/{id}', {
      auth: ['bearer', 'none'],
      media_types: ['application/json'],
      parameters: [
        parameter('path', 'id', ['integer']),
        parameter('path', 'id2', ['integer']),
        parameter('query', 'page', ['integer'], 3),
        parameter('query', 'at', ['date', 'null']),
        { ...parameter('body', 'user.email', ['email']), personal: ['email'] },
        parameter('body', 'user', ['object']),
        parameter('body', 'items', ['array']),
        { ...parameter('body', 'items[].sku', ['uuid']), media_types: ['application/json'] },
      ],
    }),
  ]);
  checkDocument(document);
  const path = (document.paths as Json)['/users/{id}/orders/{id2}'] as Record<string, Json>;
  assert.deepEqual(path.post, {
    parameters: [
      { name: 'id', in: 'path', required: true, schema: { type: 'integer' } },
      { name: 'id2', in: 'path', required: true, schema: { type: 'integer' } },
      { name: 'page', in: 'query', required: false, schema: { type: 'integer' } },
      { name: 'at', in: 'query', required: true, schema: { type: ['string', 'null'] } },
    ],
    requestBody: {
      content: {
        'application/json': {
          schema: {
            type: 'object',
            properties: {
              user: {
                type: 'object',
                properties: {
                  email: { type: 'string', format: 'email', 'x-sonde-personal-data': ['email'] },
                },
              },
              items: {
                type: 'array',
                items: {
                  type: 'object',
                  properties: { sku: { type: 'string', format: 'uuid' } },
                },
              },
            },
          },
        },
      },
    },
    responses: {
      '2XX': { description: 'Seen 9 times', content: { 'application/json': {} } },
      '4XX': { description: 'Seen 1 times' },
    },
    security: [{ bearer: [] }, {}],
    'x-sonde-requests': 10,
    'x-sonde-first-seen': '2026-01-01T00:00:00.000Z',
    'x-sonde-last-seen': '2026-01-02T00:00:00.000Z',
  });
});

test('routes that OpenAPI takes for one are one, and what it has no word for stands apart', () => {
  const document = openApi('shop:80', [
    operation('GET', '/a/{id}', { parameters: [parameter('path', 'id', ['integer'])] }),
    operation('GET', '/a/{uuid}', { parameters: [parameter('path', 'uuid', ['uuid'])] }),
    operation('PUT', '/a/{token}', { statuses: {} }),
    operation('GET', '/long/<more>'),
    operation('PROPFIND', '/dav'),
    operation('GET', '<other>'),
  ]);
  checkDocument(document);
  assert.deepEqual(Object.keys(document.paths as Json), ['/a/{id}', '/long/{more}']);
  assert.deepEqual(document['x-sonde-other-operations'], ['PROPFIND /dav', 'GET <other>']);
});

test('parts are named by their kinds, and every way of authorization is a need', () => {
  const document = openApi('shop:80', [
    operation('GET', '/u/{uuid}/items/{id}/{id}', { auth: ['digest', 'other'] }),
  ]);
  checkDocument(document);
  const path = (document.paths as Json)['/u/{uuid}/items/{id}/{id2}'] as Record<string, Json>;
  assert.deepEqual(path.get!.security, [{ digest: [] }, { other: [] }]);
  const { securitySchemes } = document.components as Record<string, Json>;
  assert.deepEqual(securitySchemes!.digest, { type: 'http', scheme: 'digest' });
});

test('whatever was seen, the document holds', () => {
  const kinds = fc.uniqueArray(
    fc.constantFrom('integer', 'uuid', 'string', 'array', 'object', 'null'),
  );
  const one = fc.record({
    place: fc.constantFrom('path', 'query', 'body'),
    name: fc.constantFrom('id', 'a', 'a.b', 'a[].c', '[].d', '', '..', 'x y', '__proto__'),
    kinds,
    personal: fc.constant([]),
    media_types: fc.constantFrom([], ['application/json']),
    requests: fc.nat(20),
  });
  const route = fc
    .array(fc.constantFrom('a', 'b', '{id}', '{uuid}', '{id}.jpg', '<more>'), { maxLength: 4 })
    .map((parts) => `/${parts.join('/')}`);
  const any = fc
    .tuple(
      fc.constantFrom('GET', 'POST', 'X'),
      route,
      fc.array(one),
      fc.constantFrom('bearer', 'other'),
    )
    .map(([method, at, parameters, auth]) => operation(method, at, { parameters, auth: [auth] }));
  fc.assert(
    fc.property(fc.array(any), (operations) => checkDocument(openApi('x', operations))),
    SEED,
  );
});
