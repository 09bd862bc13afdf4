// Debian packages without touching the host: an apt of our own under one folder, with its own lists and an empty
// list of installed packages, fed by the mirror that the host already uses. Nothing is installed, only unpacked.

import { existsSync } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './command.ts';

export interface Apt {
  /** Runs `apt-get` on our own lists. */
  readonly get: (args: readonly string[], cwd?: string) => Promise<string>;
  /** Runs `apt-cache` on our own lists. */
  readonly cache: (args: readonly string[]) => Promise<string>;
  /** Where `get` leaves what `install --download-only` brought. */
  readonly archives: string;
}

export interface Package {
  readonly name: string;
  readonly version: string;
  readonly depends: readonly string[];
  /** False where an index still names the package and the mirror no longer offers it. */
  readonly offered: boolean;
}

/** Makes the folder's apt ready for `suites`, and reads their lists anew. Throws if the host names no Debian mirror. */
export async function openApt(folder: string, suites: readonly string[]): Promise<Apt> {
  const lists = join(folder, 'lists');
  const archives = join(folder, 'archives');
  const sources = join(folder, 'sources.list');
  const status = join(folder, 'status');
  await mkdir(join(lists, 'partial'), { recursive: true });
  await mkdir(join(archives, 'partial'), { recursive: true });
  await writeFile(status, '');
  await writeFile(sources, await sourceLines(suites));
  const settings = [
    `Dir::State=${folder}`,
    `Dir::State::lists=${lists}`,
    `Dir::State::status=${status}`,
    `Dir::Cache=${folder}`,
    `Dir::Cache::archives=${archives}`,
    `Dir::Etc::sourcelist=${sources}`,
    'Dir::Etc::sourceparts=/dev/null',
    'Dir::Etc::preferences=/dev/null',
    'Dir::Etc::preferencesparts=/dev/null',
    'Acquire::Languages=none',
    // the lists of an ended release expire, and are still what the mirror has
    'Acquire::Check-Valid-Until=false',
    'APT::Sandbox::User=root',
    'APT::Install-Recommends=false',
    'APT::Architecture=amd64',
    'APT::Get::Assume-Yes=true',
  ].flatMap((setting) => ['-o', setting]);
  const apt: Apt = {
    get: async (args, cwd) =>
      (
        await run(['apt-get', '-q', ...settings, ...args], { cwd: cwd ?? folder })
      ).stdout.toString(),
    cache: async (args) => (await run(['apt-cache', ...settings, ...args])).stdout.toString(),
    archives,
  };
  await apt.get(['update']);
  return apt;
}

/** Debian's archive and security archive as this machine's apt reads them. Throws if it reads none. */
export async function debianMirror(): Promise<{ archive: string; security: string }> {
  const { stdout } = await run(['apt-get', 'indextargets', '--format', '$(REPO_URI)']);
  const uris = [...new Set(stdout.toString().split('\n'))];
  const archive = uris.find((uri) => /\/debian\/?$/.test(uri));
  if (!archive) throw new Error('The apt sources of this machine name no Debian mirror');
  const base = archive.replace(/\/debian\/?$/, '');
  const security = uris.find((uri) => /\/debian-security\/?$/.test(uri));
  return { archive, security: security ?? `${base}/debian-security` };
}

async function sourceLines(suites: readonly string[]): Promise<string> {
  const { archive, security } = await debianMirror();
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
  const options = existsSync(keyring)
    ? `[target=Packages signed-by=${keyring}]`
    : '[target=Packages]';
  const line = (suite: string) => {
    const uri = suite.endsWith('-security') ? security : archive;
    return `deb ${options} ${uri} ${suite} main\n`;
  };
  return [...new Set(suites)].map(line).join('');
}

/** Downloads `names` (a suite may follow a slash) with all they depend on, and unpacks the lot into `target`. */
export async function unpackWithDependencies(
  apt: Apt,
  names: readonly string[],
  target: string,
): Promise<number> {
  await emptyArchives(apt);
  await apt.get(['install', '--download-only', ...names]);
  return await unpackArchives(apt, target);
}

/** Downloads just the packages named, and unpacks them into `target`. */
export async function unpackAlone(
  apt: Apt,
  names: readonly string[],
  target: string,
): Promise<number> {
  await emptyArchives(apt);
  await apt.get(['download', ...names], apt.archives);
  return await unpackArchives(apt, target);
}

async function emptyArchives(apt: Apt): Promise<void> {
  for (const name of await readdir(apt.archives)) {
    if (name.endsWith('.deb')) await rm(join(apt.archives, name));
  }
}

async function unpackArchives(apt: Apt, target: string): Promise<number> {
  await mkdir(target, { recursive: true });
  const names = (await readdir(apt.archives)).filter((name) => name.endsWith('.deb'));
  for (const name of names) {
    await run(['dpkg-deb', '--extract', join(apt.archives, name), target]);
  }
  await emptyArchives(apt);
  return names.length;
}

/** The newest version of a package in the lists, or undefined where there is none. */
export async function findPackage(apt: Apt, name: string): Promise<Package | undefined> {
  const known = await apt.cache(['pkgnames', name]);
  if (!known.split('\n').includes(name)) return undefined;
  const text = await apt.cache(['show', '--no-all-versions', name]).catch(() => '');
  return parsePackage(text, name);
}

export function parsePackage(text: string, name: string): Package | undefined {
  const field = (key: string) => new RegExp(`^${key}: (.*)$`, 'm').exec(text)?.[1];
  const version = field('Version');
  if (!version) return undefined;
  const depends = (field('Depends') ?? '')
    .split(',')
    .map((part) => part.trim().split(/[ (|]/)[0])
    .filter((part) => part !== '');
  return { name, version, depends, offered: field('Filename') !== undefined };
}
