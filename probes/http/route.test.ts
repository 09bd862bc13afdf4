import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import {
  ROUTE_LENGTH_MAX,
  ROUTE_OTHER,
  ROUTE_SEGMENTS_MAX,
  Routes,
  routeOf,
  ServiceRoutes,
} from './route.ts';

const SEED = { seed: 20260727, numRuns: 2000 };

/** Path → template. */
const CASES: readonly (readonly [string, string])[] = [
  ['/', '/'],
  ['', ''],
  ['*', '*'],
  ['/users', '/users'],
  ['/users/', '/users/'],
  ['/users//x', '/users//x'],
  ['/users/1', '/users/{id}'],
  ['/users/42/orders/981?page=2', '/users/{id}/orders/{id}'],
  ['/users/42#top', '/users/{id}'],
  ['/users/-42', '/users/{id}'],
  ['/geo/52.5200,13.4050', '/geo/{id}'],
  ['/api/{tmpl}/{x', '/api/%7Btmpl%7D/%7Bx'],
  ['/v1/items', '/v1/items'],
  ['/api/v2/items/7', '/api/v2/items/{id}'],
  ['/o/6f1c0b52-3a3e-4f0a-9a83-0d9d5a7a8c11', '/o/{uuid}'],
  ['/o/6F1C0B52-3A3E-4F0A-9A83-0D9D5A7A8C11.json', '/o/{uuid}.json'],
  ['/blob/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', '/blob/{hash}'],
  ['/commit/3c6006b51ffa', '/commit/{hash}'],
  ['/commit/3c6006b', '/commit/3c6006b'],
  ['/doc/507f1f77bcf86cd799439011', '/doc/{hash}'],
  ['/facade/deadbeef', '/facade/deadbeef'],
  ['/log/2026-11-26', '/log/{date}'],
  ['/log/2026-11-26T05:36:48.123Z', '/log/{date}'],
  ['/log/2026-11', '/log/{date}'],
  ['/user/jo.doe@example.com/mail', '/user/{email}/mail'],
  ['/user/jo%40example.com', '/user/{email}'],
  ['/thumb/12345.jpg', '/thumb/{id}.jpg'],
  ['/static/app.js', '/static/app.js'],
  ['/static/jquery-3.7.1.min.js', '/static/jquery-3.7.1.min.js'],
  ['/order-1234', '/order-{id}'],
  ['/utf-8/sha-256', '/utf-8/sha-256'],
  ['/v1/customers/cus_9s6XKzkNRiz8i3', '/v1/customers/cus_{token}'],
  ['/file/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgvE2upms', '/file/{token}'],
  ['/y/dQw4w9WgXcQ', '/y/dQw4w9WgXcQ'],
  ['/ulid/01ARZ3NDEKTSV4RRFFQ69G5FAV', '/ulid/{token}'],
  ['/getUserByIdFromStore/all', '/getUserByIdFromStore/all'],
  [
    '/blog/how-we-made-it-ten-times-faster-in-a-week',
    '/blog/how-we-made-it-ten-times-faster-in-a-week',
  ],
  [`/x/${'z'.repeat(65)}`, '/x/{token}'],
  ['/helloworld.Greeter/SayHello', '/helloworld.Greeter/SayHello'],
  ['/grpc.health.v1.Health/Check', '/grpc.health.v1.Health/Check'],
  ['/cart;jsessionid=1A2B3C/x', '/cart/x'],
  ['/caf%C3%A9/a%20b', '/caf%C3%A9/a%20b'],
  ['http://example.com/users/1?x', '/users/{id}'],
  ['https://example.com', ROUTE_OTHER],
  ['example.com:443', ROUTE_OTHER],
  ['/1/2/3/4/5/6/7/8/9/10/11/12/13', `${'/{id}'.repeat(12)}/<more>`],
];

test('paths and their templates', () => {
  for (const [path, route] of CASES) assert.equal(routeOf(path), route, path);
});

const segment = fc.oneof(
  fc.constantFrom(
    'users',
    'v1',
    'a',
    '',
    '{id}',
    '{tmpl}',
    '{',
    '{id}{x}',
    'x.y',
    '...',
    '%2F',
    ';a',
    '@',
    '-',
    '1.',
    '~',
  ),
  fc.nat().map(String),
  fc.uuid(),
  fc.string({ maxLength: 40, unit: 'binary' }),
  fc.base64String({ maxLength: 80 }),
  fc.stringMatching(/^[a-z]{1,17}[-_:=~.]\w{0,30}(\.[a-z]{1,4})?$/),
);
const path = fc.array(segment, { maxLength: 20 }).map((parts) => `/${parts.join('/')}`);

test('a template is its own template, without a query, within the limits', () => {
  fc.assert(
    fc.property(path, (raw) => {
      const route = routeOf(raw);
      assert.equal(routeOf(route), route);
      assert.ok(route.length <= ROUTE_LENGTH_MAX, `${route.length}`);
      assert.ok(route.split('/').length <= ROUTE_SEGMENTS_MAX + 2);
      assert.ok(!/[?#;]/.test(route));
    }),
    SEED,
  );
});

test('anything at all gives a template', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 5000, unit: 'binary' }), (raw) => {
      assert.ok(routeOf(raw).length <= ROUTE_LENGTH_MAX);
    }),
    SEED,
  );
});

test('ids of every kind do not multiply routes', () => {
  const id = fc.oneof(
    fc.nat().map(String),
    fc.uuid(),
    fc.bigInt({ min: 1n << 60n, max: 1n << 200n }).map((n) => `${n.toString(16)}0`),
  );
  fc.assert(
    fc.property(id, fc.stringMatching(/^[?#;]\w{0,20}$/), (one, rest) => {
      assert.match(routeOf(`/users/${one}/orders${rest}`), /^\/users\/\{(id|uuid|hash)\}\/orders$/);
    }),
    SEED,
  );
});

test('a service with too many templates gets <other>, counted, and keeps those it has', () => {
  const routes = new Routes({ routes_max: 3 });
  const words = ['a', 'b', 'c', 'd', 'e', 'a', 'd'];
  const found = words.map((word) => routes.of('shop', `/${word}`));
  assert.deepEqual(found, ['/a', '/b', '/c', ROUTE_OTHER, ROUTE_OTHER, '/a', ROUTE_OTHER]);
  assert.equal(routes.refused, 3);
  assert.equal(routes.of('other', '/d'), '/d', 'each service has a limit of its own');
});

test('services beyond the limit share one', () => {
  const routes = new Routes({ services_max: 1, routes_max: 2 });
  assert.equal(routes.of('first', '/a'), '/a');
  assert.equal(routes.service('second'), routes.service('third'));
  assert.equal(routes.of('second', '/b'), '/b');
  assert.equal(routes.of('third', '/c'), '/c');
  assert.equal(routes.of('fourth', '/d'), ROUTE_OTHER);
});

test('forgetting paths changes no answer', () => {
  const small = new ServiceRoutes(50, 4);
  const large = new ServiceRoutes(50, 100_000);
  fc.assert(
    fc.property(path, (raw) => {
      assert.equal(small.of(raw), large.of(raw));
    }),
    { ...SEED, numRuns: 500 },
  );
  assert.equal(small.size, large.size);
  assert.equal(small.refused, large.refused);
  assert.ok(small.size <= 50);
});
