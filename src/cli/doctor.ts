// `sonde doctor`: what this machine lacks for sonde, why it matters, and the cure. Works without root.

import { hostname } from 'node:os';
import { probes } from '../../probes/index.ts';
import type { Config } from '../config/schema.ts';
import type { Place } from '../doctor/check.ts';
import { examine } from '../doctor/examine.ts';
import { grantOf, grantText } from '../doctor/grant.ts';
import { checks } from '../doctor/list.ts';
import { liveBuild, liveNetwork, liveReducer, liveRunning, liveTypes } from '../doctor/live.ts';
import { thisMachine } from '../doctor/machine.ts';
import { foreignText, reportOf, reportText } from '../doctor/present.ts';
import { isWanted } from '../table/probe.ts';
import type { Call } from './call.ts';
import { CliError, EXIT_OPERATOR } from './failure.ts';
import { configOf } from './options.ts';
import { print } from './output.ts';

/** Exit status 1 when a check fails. */
export async function run(call: Call): Promise<number> {
  const { config, warnings } = configOf('run', call);
  if (call.options['--grant'] === true) return grant(call, config);
  if (call.args.length > 0) {
    throw new CliError('doctor: names of sources go with --grant', EXIT_OPERATOR);
  }
  const machine = thisMachine();
  const reducer = liveReducer(config);
  const place: Place = {
    machine,
    config,
    config_file: String(call.options['--config'] ?? ''),
    config_warnings: warnings,
    probes,
    build: liveBuild,
    types: liveTypes(config),
    network: liveNetwork(config, reducer),
    running: liveRunning(config, probes, machine, reducer),
  };
  const results = await examine(checks, place);
  reducer.asking.close();
  const report = reportOf(results, { version: call.version, host: hostname() });
  print(call.options['--json'] === true ? jsonText(report) : textOf(report));
  return report.verdict === 'fail' ? 1 : 0;
}

/** For the sources that are named; without names, for those that the configuration switches on. */
function grant({ args, options }: Call, { collector, data_dir }: Config): number {
  const unknown = args.find((name) => !probes.some((probe) => probe.name === name));
  if (unknown !== undefined) {
    const names = probes.map(({ name }) => name).join(', ');
    throw new CliError(`${unknown} is no source; take of ${names}`, EXIT_OPERATOR);
  }
  const chosen = probes.filter((probe) =>
    args.length === 0 ? isWanted(probe, collector.probes) : args.includes(probe.name),
  );
  if (options['--json'] === true) {
    print(jsonText(grantOf(chosen)));
    return 0;
  }
  const place = { pin_path: collector.pin_path, data_dir, node: process.execPath };
  print(grantText(chosen, place));
  return 0;
}

function jsonText(report: unknown): string {
  return `${JSON.stringify(report, null, 2)}\n`;
}

function textOf(report: ReturnType<typeof reportOf>): string {
  if (process.platform !== 'linux') return foreignText(report);
  const { isTTY = false, columns } = process.stdout;
  return reportText(report, { color: isTTY && !process.env.NO_COLOR, width: columns });
}
