// The chart under several values: what comes out is whole, valid for sonde, and has the rights that were chosen.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { probes } from '../../probes/index.ts';
import { CASES, CHART, Release, rendered } from './chart.ts';
import {
  at,
  configOf,
  DEPLOY,
  documentsOf,
  knowsVariable,
  listAt,
  rightsNeeded,
  type Tree,
} from './files.ts';

function named(all: readonly Tree[], kind: string, name: string): Tree | undefined {
  return all.find((one) => one.kind === kind && at(one, 'metadata', 'name') === `eyes-${name}`);
}

function contextOf(all: readonly Tree[], name = 'collector'): unknown {
  const set = named(all, 'DaemonSet', name);
  return at(set, 'spec', 'template', 'spec', 'containers', 0, 'securityContext');
}

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

/** Why helm is not asked; false: it is. */
const NO_HELM: string | false = helm('version', '--short').status === 0 ? false : 'needs helm';

function helm(...words: readonly string[]) {
  return spawnSync('helm', words, { encoding: 'utf8', maxBuffer: 1 << 26 });
}

function helmRenders(values: Tree): readonly Tree[] {
  const dir = mkdtempSync(join(tmpdir(), 'sonde-helm-'));
  try {
    const path = join(dir, 'values.yaml');
    writeFileSync(path, JSON.stringify(values));
    const chart = join(DEPLOY, CHART);
    const lint = helm('lint', '--strict', chart, '-f', path);
    assert.equal(lint.status, 0, `${lint.stdout}${lint.stderr}`);
    const words = ['template', Release.Name, chart, '-n', Release.Namespace, '-f', path];
    const { status, stdout, stderr } = helm(...words);
    assert.equal(status, 0, stderr);
    return documentsOf(stdout, 'helm template').filter((one) => one !== null);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

test('helm finds no fault with the chart, and renders what the tests do', { skip: NO_HELM }, () => {
  const key = (one: Tree) => `${one.kind} ${at(one, 'metadata', 'name')}`;
  const sorted = (all: readonly Tree[]) => all.toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
  for (const [name, values] of CASES) {
    assert.deepEqual(sorted(helmRenders(values)), sorted(rendered(values)), name);
  }
});

test('helm refuses a missing token with words', { skip: NO_HELM }, () => {
  const { status, stderr } = helm('template', 'eyes', join(DEPLOY, CHART));
  assert.notEqual(status, 0);
  assert.match(stderr, /token: give one, or existingSecret/);
});

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
