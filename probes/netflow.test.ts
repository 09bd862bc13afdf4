// The table by the documents' names: what other programs, queries and pages rely upon.

import assert from 'node:assert/strict';
import test from 'node:test';
import { tables } from './index.ts';
import { netflow } from './netflow.ts';
import { tcp } from './tcp/tcp.ts';
import { udp } from './udp/udp.ts';

/** Tags and fields of the documents, each with its unit. */
const TAGS = [
  'direction transport family src_ip src_port src_ip_type dst_ip dst_port dst_ip_type',
  'pid process_name sub_source dst_domain dst_nat_ip dst_nat_port',
  'src_k8s_namespace src_k8s_pod_name src_k8s_deployment_name src_k8s_service_name',
  'dst_k8s_namespace dst_k8s_pod_name dst_k8s_deployment_name dst_k8s_service_name',
].flatMap((line) => line.split(' '));
const FIELDS = new Map([
  ['bytes_read', 'By'],
  ['bytes_written', 'By'],
  ['retransmits', '1'],
  ['rtt', 'us'],
  ['rtt_var', 'us'],
  ['tcp_established', '1'],
  ['tcp_closed', '1'],
]);

test('the table has the tags and fields of the documents', () => {
  const names = [...netflow.dimensions, ...(netflow.enriched ?? [])].map(({ name }) => name);
  assert.deepEqual(
    TAGS.filter((tag) => !names.includes(tag)),
    [],
  );
  for (const [field, unit] of FIELDS) {
    const measure = netflow.measures.find(({ name }) => name === field);
    assert.equal(measure?.unit, unit, field);
  }
});

test('both probes fill it, and it is listed once', () => {
  assert.deepEqual([tcp.tables, udp.tables], [[netflow], [netflow]]);
  assert.equal(tables.filter(({ name }) => name === 'netflow').length, 1);
});

test('each sweep belongs to a part, and each interval has one', () => {
  for (const probe of [tcp, udp]) {
    const programs = probe.parts.flatMap(({ variants }) => variants.flatMap((v) => v.programs));
    for (const sweep of probe.sweeps) {
      for (const program of sweep.programs) assert.ok(programs.includes(program), program);
    }
    assert.ok(probe.sweeps.some(({ when }) => when === 'interval'));
  }
});
