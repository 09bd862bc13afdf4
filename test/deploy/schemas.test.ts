// Manifests and chart against Kubernetes' own schemas, as the Python package kubernetes-validate carries them; it is
// installed once into build/.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CASES, rendered } from './chart.ts';
import { documentsOf, namesIn, ROOT, type Tree, textOf } from './files.ts';

/** An old release and the newest that the package knows. */
const VERSIONS = ['1.25.0', '1.37.0'];
const PACKAGE = 'kubernetes-validate==1.37.0';

const venv = join(ROOT, 'build/kubernetes-validate-venv');
const program = join(venv, 'bin/kubernetes-validate');
const INSTALL_MS_MAX = 180_000;

/** Installs the schemas once; the reason when they cannot be had. */
function missingSchemas(): string | false {
  const works = () => spawnSync(program, ['--version']).status === 0;
  if (existsSync(program) && works()) return false;
  const made = spawnSync('python3', ['-m', 'venv', venv], { encoding: 'utf8' });
  if (made.status !== 0) return 'python3 -m venv does not work here';
  const words = ['-m', 'pip', 'install', '-q', PACKAGE];
  const installed = spawnSync(join(venv, 'bin/python'), words, {
    encoding: 'utf8',
    timeout: INSTALL_MS_MAX,
  });
  if (installed.status !== 0) {
    return `pip cannot install kubernetes-validate: ${installed.stderr?.slice(-200)}`;
  }
  return works() ? false : 'kubernetes-validate does not start';
}

/** What the schemas have against these objects, properties that they do not know included; empty: nothing. */
function schemaFaults(objects: readonly Tree[]): string {
  const dir = mkdtempSync(join(tmpdir(), 'sonde-schemas-'));
  try {
    // YAML of each object in a file of its own, since JSON is YAML.
    const paths = objects.map((object, i) => join(dir, `${i}-${String(object.kind)}.yaml`));
    for (const [i, path] of paths.entries()) writeFileSync(path, JSON.stringify(objects[i]));
    return VERSIONS.map((version) => {
      const words = ['--strict', '--quiet', '-k', version, ...paths];
      const { status, stdout, stderr } = spawnSync(program, words, { encoding: 'utf8' });
      return status === 0 ? '' : `${version}: ${stdout}${stderr}`;
    }).join('');
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const missing = missingSchemas();

test('every object of the manifests is valid', { skip: missing }, () => {
  const all = namesIn('kubernetes', '.yaml').flatMap((name) => {
    return documentsOf(textOf(`kubernetes/${name}`), name);
  });
  assert.equal(schemaFaults(all), '');
  const misspelt = { ...all[0], spac: {} };
  assert.match(schemaFaults([misspelt]), /'spac' was unexpected/);
});

test('every object of the chart is valid, whatever the values', { skip: missing }, () => {
  assert.equal(schemaFaults([...CASES.values()].flatMap(rendered)), '');
});
