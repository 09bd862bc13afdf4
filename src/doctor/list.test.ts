// The list of checks and how it is put to a machine; the table and the JSON that come of it; the page of the manual.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import test from 'node:test';
import type { Probe } from '../table/probe.ts';
import { examine } from './examine.ts';
import { checks, sections } from './list.ts';
import { troubleshootingPage } from './page.ts';
import { reportOf, reportText, verdictText } from './present.ts';
import { NOBODY, PROBE, placeOf, SECTIONS_TRIED } from './testing.ts';

test('every section is tried by one of the two tests of cases', () => {
  assert.deepEqual(
    sections.map(({ title }) => title),
    [...SECTIONS_TRIED.machine, ...SECTIONS_TRIED.work],
  );
});

test('ids are stable words, each once', () => {
  const ids = checks.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
  for (const id of ids) assert.match(id, /^[a-z0-9]+(-[a-z0-9]+)*$/);
});

test('each source has its own finding', async () => {
  const udp: Probe = { ...PROBE, name: 'udp', rights: [] };
  const source = checks.filter(({ id }) => id === 'source');
  const place = placeOf({ ...NOBODY, probes: [PROBE, udp], running: { trial: async () => [] } });
  const results = await examine(source, place);
  assert.deepEqual(
    results.map(({ subject, state }) => [subject, state]),
    [
      ['tcp', 'skip'],
      ['udp', 'skip'],
    ],
  );
  assert.match(results[0]?.found ?? '', /needs CAP_BPF/);
  assert.match(results[1]?.found ?? '', /^not tried$/);
});

test('a check that throws is a failed check, and the next one is asked', async () => {
  const broken = { ...checks[0]!, id: 'broken', look: () => assert.fail('oops') };
  const results = await examine([broken, checks[0]!], placeOf());
  assert.deepEqual(
    results.map(({ state }) => state),
    ['fail', 'ok'],
  );
  assert.match(results[0]?.found ?? '', /broke: oops/);
});

test('elsewhere than on Linux one line is all', async () => {
  const results = await examine(checks, placeOf({ machine: { platform: 'darwin' } }));
  assert.deepEqual(
    results.map(({ id, state }) => [id, state]),
    [['linux', 'skip']],
  );
});

test('the page of the manual has a section for each check, and is fresh', () => {
  const path = new URL('../../docs/troubleshooting.md', import.meta.url);
  assert.ok(existsSync(path), 'docs/troubleshooting.md is missing');
  const page = readFileSync(path, 'utf8');
  for (const { id } of checks) assert.ok(page.includes(`\n### ${id}\n`), `no section ${id}`);
  assert.equal(page, troubleshootingPage(), 'docs/troubleshooting.md is stale: npm run docs');
  const wide = page.split('\n').filter((line) => line.length > 150);
  assert.deepEqual(wide, []);
});

test('the report keeps its schema', async () => {
  const place = placeOf({ ...NOBODY, free: 0 });
  const asked = checks.filter(({ id }) => ['linux', 'disk-space', 'source'].includes(id));
  const report = reportOf(await examine(asked, place), { version: '1.2.3', host: 'h' });
  assert.deepEqual(Object.keys(report), [
    ...['schema', 'version', 'host', 'verdict', 'counts', 'checks'],
  ]);
  assert.deepEqual(
    [report.schema, report.version, report.host, report.verdict],
    [1, '1.2.3', 'h', 'fail'],
  );
  assert.deepEqual(report.counts, { ok: 1, warn: 0, fail: 1, skip: 1 });
  for (const result of report.checks) {
    assert.deepEqual(Object.keys(result), [
      ...['id', 'subject', 'what', 'state', 'found', 'why', 'cure'],
    ]);
  }
  assert.equal(report.checks[0]?.cure, '', 'nothing is to be done where all is well');
  assert.equal(verdictText(report), '1 failed (disk-space); 1 ok, 0 to look at, 1 not asked.');
});

test('the table is aligned, says why and how under what is ill, and keeps commands whole', () => {
  const well = { id: 'a', subject: '', what: '', state: 'ok', found: 'fine', why: 'w', cure: '' };
  const ill = {
    ...{ id: 'long-name', subject: 'tcp', what: '', state: 'warn', found: 'bad '.repeat(8).trim() },
    ...{ why: 'it matters', cure: 'Do this:\n  a-command --with many --long options --and more' },
  };
  // State is a union: literals in an array widen to string.
  const results = [well, ill] as Parameters<typeof reportOf>[0];
  const report = reportOf(results, { version: '1', host: 'h' });
  assert.deepEqual(reportText(report, { color: false, width: 45 }).split('\n'), [
    'ok    a              fine',
    'warn  long-name tcp  bad bad bad bad bad bad',
    '                     bad bad',
    '                     why: it matters',
    '                     cure: Do this:',
    '                       a-command --with many --long options --and more',
    '',
    "Nothing stands in sonde's way: 1 ok, 1 to look at, 0 not asked.",
    '',
  ]);
  assert.ok(reportText(report, { color: true }).startsWith('\x1b[32mok  \x1b[0m  a'));
  const [first] = report.checks;
  const hostile = { ...report, checks: [{ ...first!, found: 'x\x1b[2J' }] };
  assert.ok(reportText(hostile, { color: false }).includes('x\ufffd[2J'));
});
