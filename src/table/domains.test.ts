// Names of addresses: by namespace, as long as they hold, within a limit.

import assert from 'node:assert/strict';
import test from 'node:test';
import { DomainCache, FlowDomains } from './domains.ts';

const LAG_MS = 90_000;

test('a name holds for its time and what a report may lag behind', () => {
  const domains = new DomainCache();
  domains.note(1, '192.0.2.1', 'a.example', 60, 1000);
  assert.equal(domains.find(1, '192.0.2.1', 1000 + 60_000 + LAG_MS), 'a.example');
  assert.equal(domains.find(1, '192.0.2.1', 1001 + 60_000 + LAG_MS), '');
  assert.equal(domains.size, 0, 'what is over is gone');
});

test('the last name asked for stays, and namespaces are worlds of their own', () => {
  const domains = new DomainCache();
  domains.note(1, '192.0.2.1', 'a.example', 60, 0);
  domains.note(1, '192.0.2.1', 'b.example', 60, 0);
  domains.note(2, '192.0.2.1', 'c.example', 60, 0);
  assert.deepEqual(
    [1, 2, 3].map((netns) => domains.find(netns, '192.0.2.1', 0)),
    ['b.example', 'c.example', ''],
  );
});

test('beyond the limit the oldest goes; asking again makes a name young', () => {
  const domains = new DomainCache(3);
  for (const n of [1, 2, 3, 1, 4]) domains.note(1, `192.0.2.${n}`, `${n}.example`, 60, 0);
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
