// A real Prometheus for the tests.

import { spawnSync } from 'node:child_process';

/** Another test may be installing something. */
const LOCK_S = 120;

/**
 * `prometheus` and `promtool` of Debian's package; as root they are installed if they are missing. Gives why they are not
 * there, or undefined.
 */
export function installPrometheus(): string | undefined {
  const has = () => spawnSync('promtool', ['--version']).status === 0;
  if (has()) return undefined;
  if (process.getuid?.() !== 0) return 'promtool is missing and only root can install it';
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const options = ['-qy', '--no-install-recommends', '-o', `DPkg::Lock::Timeout=${LOCK_S}`];
  const args = ['install', ...options, 'prometheus'];
  const { status, stderr } = spawnSync('apt-get', args, { env, timeout: 300_000 });
  if (status === 0 && has()) return undefined;
  return `apt-get install prometheus failed: ${String(stderr).slice(-300)}`;
}
