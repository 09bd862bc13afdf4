// Alert rules and dashboards: promtool takes them, the rules fire when they should, and every metric that they ask for is
// one that sonde shows.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { allMetrics } from '../../scripts/metrics.ts';
import { seriesNames } from '../../src/outlet/page.ts';
import { installPrometheus } from '../../src/outlet/testing.ts';
import { at, DEPLOY, documentsOf, listAt, namesIn, textOf } from './files.ts';

const known = seriesNames(allMetrics());
const no_promtool = installPrometheus() ?? false;

/** Names in an expression that look like metrics of ours. */
function metricsIn(expression: string): readonly string[] {
  const without_texts = expression.replaceAll(/"[^"]*"/g, '""');
  return without_texts.match(/\b(sonde|tfo|process)_[a-z0-9_]+/g) ?? [];
}

function promtool(...words: string[]): void {
  const options = { cwd: join(DEPLOY, 'prometheus'), encoding: 'utf8' } as const;
  const { status, stdout, stderr } = spawnSync('promtool', words, options);
  assert.equal(status, 0, `${stdout}${stderr}`);
}

const rules = documentsOf(textOf('prometheus/sonde-alerts.yaml'), 'rules').flatMap((one) =>
  listAt(one, 'groups').flatMap((group) => listAt(group, 'rules')),
);

test('alert rules ask for metrics that exist', () => {
  assert.ok(rules.length > 5);
  for (const { expr, alert } of rules) {
    for (const name of metricsIn(String(expr)))
      if (!LABELS.has(name)) assert.ok(known.has(name), `${alert}: ${name}`);
  }
});

test('the rule of the document is there word by word', () => {
  const found = rules.find(({ alert }) => alert === 'EBPFCollectorDown');
  assert.equal(found?.expr, 'absent(tfo_ebpf_syscall_count) == 1');
});

test('promtool takes the rules, and they fire when they should', { skip: no_promtool }, () => {
  promtool('check', 'rules', 'sonde-alerts.yaml');
  promtool('test', 'rules', 'sonde-alerts.test.yaml');
});

/** Labels that begin like metrics. */
const LABELS = new Set(['process_name']);

const dashboards = namesIn('grafana', '.json').map((name) => {
  const board: unknown = JSON.parse(textOf(`grafana/${name}`));
  const expressions = listAt(board, 'panels').flatMap((panel) =>
    listAt(panel, 'targets').map(({ expr }) => String(expr)),
  );
  const variables = listAt(board, 'templating', 'list');
  return { name, board, expressions, variables };
});

test('dashboards ask for metrics that exist, through variables that they define', () => {
  assert.equal(dashboards.length, 3);
  for (const { name, expressions, variables } of dashboards) {
    const queries = variables.flatMap((one) => (one.type === 'query' ? [String(one.query)] : []));
    for (const expression of [...expressions, ...queries]) {
      for (const metric of metricsIn(expression)) {
        if (!LABELS.has(metric)) assert.ok(known.has(metric), `${name}: ${metric}`);
      }
      const defined = variables.map((one) => String(one.name));
      for (const [, used] of expression.matchAll(/"\$(\w+)"/g)) {
        assert.ok(defined.includes(used ?? ''), `${name}: $${used}`);
      }
    }
  }
});

test('panels have ids of their own and do not lie on each other', () => {
  for (const { name, board } of dashboards) {
    const panels = listAt(board, 'panels');
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length, name);
    const places = panels.map(
      (panel) => `${at(panel, 'gridPos', 'x')} ${at(panel, 'gridPos', 'y')}`,
    );
    assert.equal(new Set(places).size, panels.length, name);
  }
});

test('the whole agent is on a dashboard', () => {
  const asked = new Set(dashboards.flatMap(({ expressions }) => expressions.flatMap(metricsIn)));
  const missing = allMetrics().tfo.filter(({ name }) => !asked.has(name));
  assert.deepEqual(missing, []);
});

test('promtool can read every expression of the dashboards', { skip: no_promtool }, (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'sonde-boards-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const all = dashboards.flatMap(({ expressions }) => expressions);
  const read = all.map((expression, i) => ({
    record: `board:expression:${i}`,
    expr: expression.replaceAll('$__rate_interval', '5m').replaceAll(/\$\w+/g, '.*'),
  }));
  const path = join(dir, 'rules.yaml');
  writeFileSync(path, JSON.stringify({ groups: [{ name: 'boards', rules: read }] }));
  promtool('check', 'rules', path);
});
