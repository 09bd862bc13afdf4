// systemd units, SELinux module, example configurations.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { configOf, DEPLOY, knowsVariable, namesIn, ROOT, rightsNeeded, textOf } from './files.ts';

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'sonde-units-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

function has(command: string): boolean {
  return spawnSync(command, ['--version']).error === undefined;
}

/** The values of a key in a unit, in order. */
function valuesOf(unit: string, key: string): readonly string[] {
  return [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value]) => value ?? '');
}

const units = namesIn('systemd', '.service');

test('units call commands that exist, as a user of their own, with known variables', () => {
  const users = textOf('systemd/sonde.sysusers.conf');
  assert.equal(units.length, 3);
  for (const name of units) {
    const unit = textOf(`systemd/${name}`);
    const [start = ''] = valuesOf(unit, 'ExecStart');
    const [program, command = ''] = start.split(' ');
    assert.equal(program, '/opt/sonde/sonde');
    assert.equal(spawnSync(join(ROOT, 'sonde'), [command, '--help']).status, 0, command);
    assert.match(users, new RegExp(`^u ${valuesOf(unit, 'User')[0]} `, 'm'));
    const variables = valuesOf(unit, 'Environment').flatMap((line) => line.split(' '));
    for (const one of variables) assert.ok(knowsVariable(one.split('=')[0] ?? ''), one);
  }
});

test('units that load programs have the rights of the sources, the reducer has none', () => {
  for (const name of units) {
    const unit = textOf(`systemd/${name}`);
    const bound = (valuesOf(unit, 'CapabilityBoundingSet')[0] ?? '').split(' ');
    const ambient = (valuesOf(unit, 'AmbientCapabilities')[0] ?? '').split(' ');
    assert.deepEqual(bound, ambient, name);
    if (name === 'sonde-reducer.service') assert.deepEqual(ambient, ['']);
    else
      for (const right of rightsNeeded()) assert.ok(ambient.includes(right), `${name}: ${right}`);
    assert.ok(!bound.includes('CAP_SYS_ADMIN'));
    assert.deepEqual(valuesOf(unit, 'NoNewPrivileges'), ['yes']);
  }
});

test('systemd finds nothing wrong with them', {
  skip: has('systemd-analyze') ? false : 'needs systemd-analyze',
}, (t) => {
  const dir = folder(t);
  for (const name of units) {
    const path = join(dir, name);
    // It looks for the program, which is not installed here.
    writeFileSync(path, textOf(`systemd/${name}`).replaceAll('/opt/sonde/sonde', '/bin/true'));
    const { stderr, stdout } = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' });
    assert.equal(
      `${stdout}${stderr}`
        .split('\n')
        .filter((line) => line.includes(name))
        .join(),
      '',
    );
  }
});

test('the SELinux module compiles', {
  skip: has('checkmodule') && has('semodule_package') ? false : 'needs checkpolicy, semodule-utils',
}, (t) => {
  const dir = folder(t);
  for (const name of ['sonde.te', 'sonde.fc'])
    copyFileSync(join(DEPLOY, 'selinux', name), join(dir, name));
  const run = (command: string, ...words: string[]) =>
    assert.equal(spawnSync(command, words, { cwd: dir, stdio: 'inherit' }).status, 0, command);
  run('checkmodule', '-M', '-m', '-o', 'sonde.mod', 'sonde.te');
  run('semodule_package', '-o', 'sonde.pp', '-m', 'sonde.mod', '-f', 'sonde.fc');
});

test('the example configurations are valid', () => {
  const agent = configOf(textOf('config/tfo-agent.yaml'), 'agent');
  const defaults = configOf('', 'agent');
  assert.deepEqual(agent.collector, defaults.collector, 'it says that it is the default');
  assert.deepEqual(agent.agent, defaults.agent);
  configOf(textOf('config/sonde.yaml'), 'collector');
  configOf(textOf('config/sonde.yaml'), 'reducer');
});
