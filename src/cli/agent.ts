// The document's agent as a command: apart from program.ts, so that the collector's bundle does not carry its page.

import type { Command } from 'commander';
import { addConfigOptions } from './options.ts';
import { command } from './program.ts';

export function addAgent(top: Command): void {
  const agent = command(
    top,
    'start',
    'the collector alone, with tfo_ebpf metrics at :8888/metrics (needs rights, see README)',
    async () => (await import('./start.ts')).run,
  );
  addConfigOptions(agent, 'agent');
}
