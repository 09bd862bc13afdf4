// Bundles the collector into one file, which takes near half the memory of its sources: no type stripping, no
// module of its libraries that the role does not need, the text of each function once and short. `./sonde` runs it where
// nothing of what it was made of is newer, and the sources else.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { BuildResult } from 'esbuild';

/** Command → what it is bundled from. The agent has a page to show, which would cost the collector memory. */
const ENTRIES = {
  'kernel-collector': 'src/cli/collector_main.ts',
  start: 'src/cli/agent_main.ts',
} as const;
export type Bundled = keyof typeof ENTRIES;
const COMMANDS: readonly Bundled[] = ['kernel-collector', 'start'];

function bundleOf(command: Bundled): string {
  return `build/js/${command}.mjs`;
}

/** What the bundle was made of, a path a line; the launcher reads it. */
function inputsOf(command: Bundled): string {
  return `build/js/${command}.inputs`;
}

/** Says which version of every library is in it. */
const LOCK = 'package-lock.json';

/** For the libraries that are CommonJS and ask for Node's own modules. */
const REQUIRE = `import { createRequire as requireFrom } from 'node:module';
const require = requireFrom(import.meta.url);`;

/** Asked for by grpc-js's channelz when it is called, which nobody does; found in node_modules should anybody. */
const NEVER_LOADED = ['@grpc/proto-loader'];

export function bundlesAreFresh(root: string): boolean {
  return COMMANDS.every((command) => bundleIsFresh(root, command));
}

export function bundleIsFresh(root: string, command: Bundled = 'kernel-collector'): boolean {
  const bundle = join(root, bundleOf(command));
  const inputs = join(root, inputsOf(command));
  if (!existsSync(bundle) || !existsSync(inputs)) return false;
  const built_ms = statSync(bundle).mtimeMs;
  const paths = readFileSync(inputs, 'utf8').trimEnd().split('\n');
  return paths.every((path) => {
    const stat = statSync(join(root, path), { throwIfNoEntry: false });
    return stat !== undefined && stat.mtimeMs <= built_ms;
  });
}

/** Returns false where esbuild is not installed: the sources serve as well. */
export async function buildBundles(root: string): Promise<boolean> {
  for (const command of COMMANDS) if (!(await buildBundle(root, command))) return false;
  return true;
}

async function buildBundle(root: string, command: Bundled): Promise<boolean> {
  const esbuild = await import('esbuild').catch(() => undefined);
  if (esbuild === undefined) return false;
  const result = await esbuild.build({
    absWorkingDir: root,
    entryPoints: [ENTRIES[command]],
    outfile: bundleOf(command),
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    // Names stay, and lines stay short, so that a stack still says where.
    minifyWhitespace: true,
    minifySyntax: true,
    lineLimit: 120,
    legalComments: 'external',
    banner: { js: REQUIRE },
    external: NEVER_LOADED,
    logLevel: 'warning',
  });
  mkdirSync(join(root, 'build/js'), { recursive: true });
  writeWhole(join(root, inputsOf(command)), `${ownInputs(result).join('\n')}\n`);
  // The bundle last: until it is there, the old one is older than its inputs, or as good as the new one.
  for (const file of [...result.outputFiles].reverse()) {
    writeWhole(join(root, 'build/js', basename(file.path)), file.text);
  }
  warmCache(root, command);
  return true;
}

function ownInputs(result: BuildResult<{ metafile: true }>): readonly string[] {
  const inputs = Object.keys(result.metafile.inputs);
  const own = inputs.filter((path) => !path.includes('node_modules/')).sort();
  return [...own, 'scripts/bundle.ts', LOCK];
}

/** Under another name until it is whole: a collector may be starting this moment. */
function writeWhole(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

/** So that the first start finds V8's code in build/cache, even one that may not write there. */
function warmCache(root: string, command: Bundled): void {
  mkdirSync(join(root, 'build/cache'), { recursive: true });
  spawnSync(join(root, 'sonde'), [command, '--help'], { stdio: 'ignore' });
}
