// One probe that fails to load: the other goes on and is exact, one line in the log warns, doctor and metrics show it. The
// page of metrics that says so is one that a real Prometheus takes.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { installPrometheus } from '../../src/outlet/testing.ts';
import { NO_LIVE } from '../live.ts';
import { talk } from '../traffic/traffic.ts';
import { ask, command, countLog, makePlace, type Place, startRun, until } from './sonde.ts';
import { exact } from './truth.ts';

const TALK = { connections: 300 };
const UDP = { datagrams: 500, reply: 1, size: 100 };

async function page({ metrics_port }: Place): Promise<string> {
  return await (await fetch(`http://127.0.0.1:${metrics_port}/metrics`)).text();
}

for (const failed of ['tcp', 'udp']) {
  test(`${failed} fails, the other goes on`, { skip: NO_LIVE }, async (t) => {
    const place = await makePlace(t, { SONDE_FAIL_SOURCE: failed });
    const run = await startRun(place);
    const on = failed === 'tcp' ? 'udp' : 'tcp';
    assert.match(run.printed.stderr, new RegExp(`^sonde: collector: ${on} on$`, 'm'));
    assert.match(run.printed.stderr, new RegExp(`^sonde: collector: ${failed} failed \\(`, 'm'));
    const tcp = await talk(t, 'tcp', TALK, TALK);
    const udp = await talk(t, 'udp', UDP, UDP);
    if (on === 'tcp') await exact(place, [tcp]);
    const sql = `SELECT transport, toUInt32(sum(packets_written)) AS n FROM netflow
      WHERE dst_port IN (${tcp.port}, ${udp.port}) GROUP BY 1`;
    const rows = await ask(place, sql);
    assert.deepEqual(
      rows.map(({ transport }) => transport),
      [on],
    );
    if (on === 'udp') assert.equal(rows[0]?.n, UDP.datagrams);
    const warnings = countLog(place, new RegExp(`"level":40.*"source":"${failed}"`, 'g'));
    assert.equal(warnings, 1, 'not exactly one warning');
    assert.equal(countLog(place, /"level":(40|50)/g), 1, 'another warning');
    assert.match(
      await page(place),
      new RegExp(`^sonde_source_up{[^}]*source="${failed}"[^}]*} 0$`, 'm'),
    );
    await doctorSays(place, failed, on);
    assert.equal((await run.end()).code, 0);
  });
}

interface Check {
  readonly id: string;
  readonly subject: string;
  readonly state: string;
  readonly found: string;
  readonly cure: string;
}

async function doctorSays(place: Place, failed: string, on: string): Promise<void> {
  const { code, stdout, stderr } = await command(place, ['doctor', '--json']);
  assert.equal(code, 1, `doctor finds nothing wrong: ${stderr}`);
  const report: { readonly checks: readonly Check[] } = JSON.parse(stdout.toString('utf8'));
  const sources = report.checks.filter(({ id }) => id === 'source');
  const states = Object.fromEntries(sources.map(({ subject, state }) => [subject, state]));
  assert.deepEqual([states[failed], states[on]], ['fail', 'ok']);
  const bad = sources.find(({ subject }) => subject === failed);
  assert.match(bad?.found ?? '', new RegExp(`^Failed to load ${failed} programs: .*fail_sources`));
  assert.match(bad?.cure ?? '', /SONDE_FAIL_SOURCE/);
}

test('Prometheus scrapes the page of a running sonde', { skip: NO_LIVE }, async (t) => {
  const missing = installPrometheus();
  if (missing !== undefined) return t.skip(missing);
  const place = await makePlace(t);
  await startRun(place);
  const done = await talk(t, 'tcp', TALK, TALK);
  await exact(place, [done]);
  const lint = spawnSync('promtool', ['check', 'metrics'], {
    input: await page(place),
    encoding: 'utf8',
  });
  assert.equal(lint.status, 0, lint.stdout + lint.stderr);
  const { port } = await makePlace(t);
  const config = join(place.dir, 'prometheus.yml');
  writeFileSync(
    config,
    `scrape_configs: [{ job_name: sonde, scrape_interval: 1s, static_configs: [{ targets: ['127.0.0.1:${place.metrics_port}'] }] }]\n`,
  );
  const words = [`--config.file=${config}`, `--storage.tsdb.path=${join(place.dir, 'tsdb')}`];
  const server = spawn('prometheus', [...words, `--web.listen-address=127.0.0.1:${port}`], {
    stdio: 'ignore',
  });
  place.undo(() => server.kill('SIGKILL'));
  const value = async (match: string): Promise<string> => {
    const promql = encodeURIComponent(`sum(sonde_netflow_tcp_closed_total{${match}})`);
    const url = `http://127.0.0.1:${port}/api/v1/query?query=${promql}`;
    const text = await fetch(url)
      .then((answer) => answer.text())
      .catch((error) => String(error)); // not up yet
    return /"value":\[[^,]*,"([^"]*)"\]/.exec(text)?.[1] ?? text;
  };
  const ends = [
    `src_port="${done.port}",direction="incoming"`,
    `dst_port="${done.port}",direction="outgoing"`,
  ];
  for (const match of ends) {
    let last = '';
    const is = async () => {
      last = await value(match);
      return last === String(TALK.connections);
    };
    await until(is, () => `${match} = ${TALK.connections} in Prometheus, it says ${last}`);
  }
});
