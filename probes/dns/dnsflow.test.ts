// The table by the documents' names: what other programs, queries and pages rely upon.

import assert from 'node:assert/strict';
import test from 'node:test';
import { tables } from '../index.ts';
import { dnsflow } from './dnsflow.ts';

/** Tags and fields of the document, each with its unit; `host` is the store's, `source` the table's name. */
const TAGS = [
  'direction dst_domain dst_ip dst_ip_type dst_port family src_ip src_ip_type src_port',
  'sub_source transport',
  'src_k8s_namespace src_k8s_pod_name src_k8s_deployment_name src_k8s_service_name',
  'dst_k8s_namespace dst_k8s_pod_name dst_k8s_deployment_name dst_k8s_service_name',
].flatMap((line) => line.split(' '));
const FIELDS = new Map([
  ['count', '1'],
  ['latency', 'ns'],
  ['latency_max', 'ns'],
]);

test('the table has the tags and fields of the document', () => {
  const names = [...dnsflow.dimensions, ...(dnsflow.enriched ?? [])].map(({ name }) => name);
  assert.deepEqual(
    TAGS.filter((tag) => !names.includes(tag)),
    [],
  );
  for (const [field, unit] of FIELDS) {
    assert.equal(dnsflow.measures.find(({ name }) => name === field)?.unit, unit, field);
  }
  const rcode = dnsflow.dimensions.find(({ name }) => name === 'rcode');
  assert.equal(rcode?.type, 'i32', 'a time-out is -1');
  assert.equal(tables.filter(({ name }) => name === 'dnsflow').length, 1);
});
