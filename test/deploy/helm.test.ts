// The chart under several values: what comes out is whole, valid for sonde, and has the rights that were chosen.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'yaml';
import { probes } from '../../probes/index.ts';
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
import { render } from './helm.ts';

const CHART = 'helm/sonde';
const defaults: Tree = parse(textOf(`${CHART}/values.yaml`));
const Release = { Name: 'eyes', Namespace: 'watch' };

function rendered(values: Tree): readonly Tree[] {
  return namesIn(`${CHART}/templates`, '.yaml')
    .flatMap((name) => {
      const text = render(textOf(`${CHART}/templates/${name}`), {
        Values: { ...defaults, ...values },
        Release,
      });
      return documentsOf(text, name);
    })
    .filter((one) => one !== null);
}

function named(all: readonly Tree[], kind: string, name: string): Tree | undefined {
  return all.find((one) => one.kind === kind && at(one, 'metadata', 'name') === `eyes-${name}`);
}

function contextOf(all: readonly Tree[], name = 'collector'): unknown {
  const set = named(all, 'DaemonSet', name);
  return at(set, 'spec', 'template', 'spec', 'containers', 0, 'securityContext');
}

const CASES: ReadonlyMap<string, Tree> = new Map([
  ['defaults', { token: 'x' }],
  ['a secret of the operator', { existingSecret: 'own', tlsSecret: 'own-tls' }],
  ['privileged', { token: 'x', ebpfRunAsPrivileged: true, environment: 'stage: 1' }],
  ['capture', { token: 'x', ebpfCaptureEnabled: true, daemonSetMirroringEnabled: true }],
  ['the agent alone', { token: 'x', agent: { enabled: true, interval: '15s' } }],
]);

for (const [name, values] of CASES) {
  test(`${name}: every object is whole, and refers to what is there`, () => {
    const all = rendered(values);
    for (const one of all) {
      assert.equal(typeof one.apiVersion, 'string');
      assert.match(String(at(one, 'metadata', 'name')), /^eyes-/);
      if (!String(one.kind).startsWith('Cluster')) {
        assert.equal(at(one, 'metadata', 'namespace'), 'watch');
      }
    }
    for (const one of all.filter(({ kind }) => kind === 'DaemonSet' || kind === 'Deployment')) {
      const spec = at(one, 'spec', 'template', 'spec');
      const volumes = listAt(spec, 'volumes').map((volume) => volume.name);
      const mounts = listAt(spec, 'containers', 0, 'volumeMounts').map((mount) => mount.name);
      assert.deepEqual(mounts.toSorted(), volumes.toSorted());
      const account = String(at(spec, 'serviceAccountName')).slice('eyes-'.length);
      assert.ok(named(all, 'ServiceAccount', account));
      for (const { name: variable } of listAt(spec, 'containers', 0, 'env')) {
        assert.ok(knowsVariable(String(variable)));
      }
    }
  });

  test(`${name}: the configurations are valid`, () => {
    const config = named(rendered(values), 'ConfigMap', 'config');
    const collector = String(at(config, 'data', 'collector.yaml'));
    const { collector: own } = configOf(collector, 'collector');
    assert.equal(own.intake_host, 'eyes-reducer.watch.svc');
    configOf(String(at(config, 'data', 'reducer.yaml')), 'reducer');
    configOf(String(at(config, 'data', 'agent.yaml')), 'agent');
  });
}

test('capabilities unless privileged is asked for', () => {
  const add = at(contextOf(rendered({ token: 'x' })), 'capabilities', 'add');
  const needed = rightsNeeded().map((name) => name.replace('CAP_', ''));
  assert.ok(Array.isArray(add) && needed.every((name) => add.includes(name)));
  const context = contextOf(rendered({ token: 'x', ebpfRunAsPrivileged: true }));
  assert.deepEqual([at(context, 'privileged'), at(context, 'capabilities')], [true, undefined]);
});

test('capture is off until it is switched on', {
  skip: probes.some(({ name }) => name === 'capture') ? false : 'this sonde has no capture',
}, () => {
  const captureOf = (values: Tree) => {
    const config = named(rendered({ token: 'x', ...values }), 'ConfigMap', 'config');
    const { collector } = configOf(String(at(config, 'data', 'collector.yaml')), 'collector');
    return [collector.probes.capture?.enabled ?? false, collector.capture.capture_all_namespaces];
  };
  assert.deepEqual(captureOf({}), [false, false]);
  assert.deepEqual(captureOf({ ebpfCaptureEnabled: true }), [true, false]);
  const all = { ebpfCaptureEnabled: true, daemonSetMirrorAllNamespaces: true };
  assert.deepEqual(captureOf(all), [true, true]);
});

test('a missing token is refused with words', () => {
  assert.throws(() => rendered({}), /token: give one, or existingSecret/);
});
