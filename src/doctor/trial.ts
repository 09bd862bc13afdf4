// The trial: all sources loaded and attached as the collector does it, under pins of its own, and taken off at once.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { findMount } from '../bpf/features.ts';
import { openKernel } from '../collector/kernel.ts';
import { kernelOptions } from '../collector/kernel_options.ts';
import { Pins } from '../collector/pins.ts';
import type { SourceReport } from '../collector/plan.ts';
import type { Config } from '../config/schema.ts';
import type { Probe } from '../table/probe.ts';
import type { Machine } from './machine.ts';

const FOLDER = /^sonde-doctor-(\d+)$/;

/** @throws {BpfError} when nothing can be loaded at all. */
export async function tryProbes(
  probes: readonly Probe[],
  config: Config,
  machine: Machine,
): Promise<readonly SourceReport[]> {
  const bpffs = findMount('bpf') ?? '/sys/fs/bpf';
  clearAbandoned(bpffs, machine);
  const pin_path = join(bpffs, `sonde-doctor-${process.pid}`);
  mkdirSync(pin_path, { mode: 0o700 }); // fails here, with its name, where there is no bpffs
  try {
    const kernel = await openKernel({ ...kernelOptions(config, probes), pin_path });
    kernel.detach();
    kernel.release();
    return kernel.plan.sources;
  } finally {
    new Pins(pin_path, '').clear();
  }
}

/** What a doctor left that was killed in the middle of its trial. */
export function clearAbandoned(bpffs: string, machine: Machine): void {
  for (const name of machine.list(bpffs)) {
    const pid = FOLDER.exec(name)?.[1];
    if (pid !== undefined && !machine.has(`/proc/${pid}`)) new Pins(join(bpffs, name), '').clear();
  }
}
