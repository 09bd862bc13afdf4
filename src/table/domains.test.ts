// Names of addresses: by namespace, as long as they hold, within a limit.

import assert from 'node:assert/strict';
import test from 'node:test';
import { DomainCache, FlowDomains } from './domains.ts';

const LAG_MS = 90_000;
const S = 1e9;
const IP = '192.0.2.1';
const HEARD = { now_ms: 0, time_ns: 100 * S };

test('a name holds for its time and what a report may lag behind', () => {
  const domains = new DomainCache();
  domains.note(1, IP, 'a.example', 60, { now_ms: 1000, time_ns: S });
  assert.equal(domains.find(1, IP, 1000 + 60_000 + LAG_MS), 'a.example');
  assert.equal(domains.find(1, IP, 1001 + 60_000 + LAG_MS), '');
  assert.equal(domains.size, 0, 'what is over is gone');
});

test('the last name asked for is found, and namespaces are worlds of their own', () => {
  const domains = new DomainCache();
  domains.note(1, IP, 'a.example', 60, HEARD);
  domains.note(1, IP, 'b.example', 60, HEARD);
  domains.note(2, IP, 'c.example', 60, HEARD);
  assert.deepEqual(
    [1, 2, 3].map((netns) => domains.find(netns, IP, 0)),
    ['b.example', 'c.example', ''],
  );
});

test('what began has the last name from before, as long as its own time says', () => {
  const domains = new DomainCache();
  const asked = [
    ['a.example', 100, 300],
    ['b.example', 110, 2],
    ['b.example', 112, 0],
    ['a.example', 120, 60],
  ] as const;
  for (const [name, at, ttl] of asked)
    domains.note(1, IP, name, ttl, { now_ms: at * 1000, time_ns: at * S });
  const found = [99, 100, 109.9, 110, 112.9, 113.1, 120, 181, 200, 402].map((at) =>
    domains.find(1, IP, 500_000, at * S),
  );
  const [a, b] = ['a.example', 'b.example'];
  assert.deepEqual(found, ['', a, a, b, b, a, a, a, a, '']);
});

test('of an address that many names share, the last ones are known', () => {
  const domains = new DomainCache();
  for (let i = 0; i < 40; i += 1)
    domains.note(1, IP, `${i}.example`, 60, { now_ms: 0, time_ns: (100 + i) * S });
  assert.equal(domains.find(1, IP, 0, 125.5 * S), '25.example');
  assert.equal(domains.find(1, IP, 0, 123.5 * S), '');
});

test('beyond the limit the oldest goes; asking again makes a name young', () => {
  const domains = new DomainCache(3);
  for (const n of [1, 2, 3, 1, 4]) domains.note(1, `192.0.2.${n}`, `${n}.example`, 60, HEARD);
  assert.equal(domains.size, 3);
  assert.deepEqual(
    [1, 2, 3, 4].map((n) => domains.find(1, `192.0.2.${n}`, 0)),
    ['1.example', '', '3.example', '4.example'],
  );
});

test('names of flows: within a limit', () => {
  const flows = new FlowDomains(2);
  for (const flow of ['a', 'b', 'c']) flows.set(flow, flow);
  flows.delete('b');
  assert.deepEqual(
    [flows.get('a'), flows.get('b'), flows.get('c'), flows.size],
    [undefined, undefined, 'c', 1],
  );
});
