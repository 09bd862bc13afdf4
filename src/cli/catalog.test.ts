// What `sonde catalog` prints, and what it refuses, of operations as they come from the store.

import assert from 'node:assert/strict';
import test from 'node:test';
import { catalogText } from './catalog.ts';
import type { Operation } from './operations.ts';

function operation(service: string): Operation {
  return {
    ...{ service, role: 'server', method: 'GET', route: '/', requests: 1, statuses: { '2XX': 1 } },
    ...{ unanswered: 0, auth: ['none'], media_types: [], parameters: [] },
    ...{ first_seen: '2026-01-28T00:00:00.000Z', last_seen: '2026-01-28T00:00:00.000Z' },
  };
}

const many = (count: number): Operation[] =>
  Array.from({ length: count }, (_, i) => operation(`s${i}:80`));

test('the table names the parts of a route as its parameters and OpenAPI do', () => {
  const route = '/users/{id}/orders/{id}';
  const text = catalogText('table', [{ ...operation('s:80'), route }]);
  assert.ok(text.includes('/users/{id}/orders/{id2}'));
});

test('an OpenAPI document of many services is refused with the first ten, and how many more', () => {
  const refused = (count: number, message: RegExp) =>
    assert.throws(() => catalogText('openapi', many(count)), { message, exit_code: 2 });
  refused(2, /with --service: s0:80, s1:80$/);
  refused(10, /: s0:80, .* s8:80, s9:80$/);
  refused(140, /: s0:80, .* s9:80 and 130 more, which `sonde catalog` lists$/);
  assert.match(catalogText('openapi', many(1)), /"title": "s0:80"/);
});
