// The manifests hang together: every name that one part uses another gives, every configuration is valid, and the
// containers have the rights of the sources and no more.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  at,
  configOf,
  documentsOf,
  knowsVariable,
  listAt,
  namesIn,
  rightsNeeded,
  type Tree,
  textOf,
} from './files.ts';

const all = namesIn('kubernetes', '.yaml').flatMap((name) =>
  documentsOf(textOf(`kubernetes/${name}`), name),
);

function named(kind: string, name: string): Tree {
  const found = all.find((one) => one.kind === kind && at(one, 'metadata', 'name') === name);
  assert.ok(found, `no ${kind} ${name}`);
  return found;
}

const workloads = all.filter(({ kind }) => kind === 'DaemonSet' || kind === 'Deployment');
/** Secrets are made by the operator: docs/deploy.md. */
const SECRETS = ['sonde', 'sonde-tls'];

test('every object has kind, version, name, and its namespace', () => {
  const clusterwide = ['Namespace', 'ClusterRole', 'ClusterRoleBinding'];
  for (const one of all) {
    assert.equal(typeof one.apiVersion, 'string');
    const name = at(one, 'metadata', 'name');
    assert.match(String(name), /^[a-z0-9-]+$/);
    const namespace = clusterwide.includes(String(one.kind)) ? undefined : 'sonde';
    assert.equal(at(one, 'metadata', 'namespace'), namespace, String(name));
  }
  assert.equal(workloads.length, 3);
});

test('what a pod refers to is there', () => {
  for (const one of workloads) {
    const spec = at(one, 'spec', 'template', 'spec');
    const name = String(at(one, 'metadata', 'name'));
    assert.deepEqual(
      at(one, 'spec', 'selector', 'matchLabels'),
      at(one, 'spec', 'template', 'metadata', 'labels'),
    );
    named('ServiceAccount', String(at(spec, 'serviceAccountName')));
    const volumes = listAt(spec, 'volumes');
    for (const volume of volumes) {
      const map = at(volume, 'configMap', 'name');
      if (map !== undefined) named('ConfigMap', String(map));
      const secret = at(volume, 'secret', 'secretName');
      if (secret !== undefined) assert.ok(SECRETS.includes(String(secret)));
      const claim = at(volume, 'persistentVolumeClaim', 'claimName');
      if (claim !== undefined) named('PersistentVolumeClaim', String(claim));
    }
    const container = listAt(spec, 'containers')[0]!;
    const mounted = listAt(container, 'volumeMounts').map((mount) => mount.name);
    assert.deepEqual(mounted.toSorted(), volumes.map((volume) => volume.name).toSorted(), name);
    for (const variable of listAt(container, 'env')) {
      assert.ok(knowsVariable(String(variable.name)), String(variable.name));
    }
  }
});

test('the configurations are valid for their roles', () => {
  const sonde = named('ConfigMap', 'sonde');
  const token = { SONDE_COLLECTOR_TOKEN: 'x' };
  const collector = configOf(String(at(sonde, 'data', 'collector.yaml')), 'collector', token);
  const service = named('Service', 'sonde-reducer');
  const { intake_host, intake_port } = collector.collector;
  assert.equal(intake_host, `${at(service, 'metadata', 'name')}.sonde.svc`);
  assert.equal(listAt(service, 'spec', 'ports')[0]?.port, intake_port);
  const { reducer } = configOf(String(at(sonde, 'data', 'reducer.yaml')), 'reducer');
  const ports = listAt(
    named('Deployment', 'sonde-reducer'),
    'spec',
    'template',
    'spec',
    'containers',
    0,
    'ports',
  );
  assert.deepEqual(
    ports.map(({ containerPort }) => containerPort),
    [reducer.listen.port, reducer.metrics.port],
  );
  const agent = String(at(named('ConfigMap', 'tfo-agent-config'), 'data', 'config.yaml'));
  const { collector: own, agent: page } = configOf(agent, 'agent');
  assert.equal(own.pin_path, '/sys/fs/bpf/tfo-agent');
  assert.equal(page.metrics.port, 8888);
});

test('containers that load programs have the rights of the sources, the others none', () => {
  const needed = rightsNeeded().map((name) => name.replace('CAP_', ''));
  for (const one of workloads) {
    const spec = at(one, 'spec', 'template', 'spec');
    const context = at(spec, 'containers', 0, 'securityContext');
    const add = at(context, 'capabilities', 'add');
    assert.deepEqual(at(context, 'capabilities', 'drop'), ['ALL']);
    assert.notEqual(at(context, 'privileged'), true);
    if (one.kind === 'DaemonSet') {
      assert.ok(Array.isArray(add));
      for (const name of needed) assert.ok(add.includes(name), `${name} is missing`);
      assert.ok(!add.includes('SYS_ADMIN'));
      assert.deepEqual([at(spec, 'hostPID'), at(spec, 'hostNetwork')], [true, true]);
    } else {
      assert.equal(add, undefined);
      assert.equal(at(spec, 'securityContext', 'runAsNonRoot'), true);
    }
  }
});
