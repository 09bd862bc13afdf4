// Nothing of the machine that the project is written on belongs into it: no path of its own, no host it installs from.
// Both are asked of the machine here and now, so that neither is written down.

import { execFileSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { type File, type Finding, matchLines, ROOT } from './files.ts';

/** Where any machine may have us: documents and units name such paths, whoever checks out there. */
const ANYWHERE = /^\/(opt|srv|usr|var)\//;

/** Folders of people, this checkout and this user's home; a container's root in /proc is no such path. */
export function machinePaths(folders_here: readonly string[] = [ROOT, homedir()]): RegExp {
  const own = folders_here.filter((path) => path.split('/').length > 2 && !ANYWHERE.test(path));
  const escaped = own.map((path) => path.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  // In two parts, since this file is checked too.
  const folders = ['root', 'home'].map((name) => `/${name}/`);
  return new RegExp(`(?<![\\w.}*>-])(${[...folders, ...escaped].join('|')})`);
}

/** In these a path means another machine: the kernel tests' guest mounts the host's root there. */
const GUESTS = ['test/kernels/guest.sh'];

export function paths(file: File, pattern: RegExp): Finding[] {
  if (GUESTS.includes(file.path)) return [];
  return matchLines(file, pattern, (match) => ({
    problem: `names a path of some machine: ${match[1]}`,
    cure: 'compute it, take it from the configuration, or use a folder from mkdtemp',
  }));
}

export function registryHosts(): readonly string[] {
  const sources = globSync('/etc/apt/{sources.list,sources.list.d/*}').map((path) => {
    return readFileSync(path, 'utf8');
  });
  const text = [npmRegistry(), ...sources].join('\n');
  const hosts = [...text.matchAll(/https?:\/\/(?:[^/@\s]*@)?([^/:\s]+)/g)].map((match) => match[1]);
  return [...new Set(hosts)].filter((host) => host.includes('.'));
}

function npmRegistry(): string {
  try {
    const words = ['config', 'get', 'registry'];
    return execFileSync('npm', words, { cwd: ROOT, encoding: 'utf8', stdio: 'pipe' });
  } catch {
    // Without npm there is no registry to ask for.
    return '';
  }
}

export function hosts(file: File, names: readonly string[]): Finding[] {
  if (names.length === 0) return [];
  const pattern = new RegExp(`(${names.map((name) => name.replaceAll('.', '\\.')).join('|')})`);
  return matchLines(file, pattern, (match) => ({
    problem: `names the package host ${match[1]}`,
    cure: "leave it to the package manager's own configuration",
  }));
}
