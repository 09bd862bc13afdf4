// The command line from outside: what it prints and its exit status, of the launcher as a user calls it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after } from 'node:test';
import { probes } from '../../probes/index.ts';

const ROOT = join(import.meta.dirname, '../..');
const SONDE = join(ROOT, 'sonde');
const LIMIT_MS = 60_000;
/** The user `nobody`, on every Linux. */
const NOBODY = '65534';

const folder = mkdtempSync(join(tmpdir(), 'sonde-cli-'));
chmodSync(folder, 0o777); // nobody writes there, too
after(() => rmSync(folder, { recursive: true }));

const is_root = process.getuid?.() === 0;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
const without_root = noNobody();

/** False, or why the tests of a user without rights cannot run here. */
function noNobody(): string | false {
  if (!is_root) return 'needs root, to become a user without rights';
  const [command = '', ...rest] = AS_NOBODY;
  const reached = spawnSync(command, [...rest, 'test', '-x', SONDE]).status === 0;
  return reached ? false : `another user may not enter ${ROOT}`;
}

interface Outcome {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

interface Setting {
  readonly env?: Readonly<Record<string, string>>;
  readonly as_nobody?: boolean;
}

/** No variable of whoever runs the tests reaches it. */
function sonde(words: readonly string[], { env = {}, as_nobody = false }: Setting = {}): Outcome {
  const [command = '', ...rest] = as_nobody ? [...AS_NOBODY, SONDE] : [SONDE];
  const result = spawnSync(command, [...rest, ...words], {
    encoding: 'utf8',
    timeout: LIMIT_MS,
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      EBPF_NET_DATA_DIR: folder,
      EBPF_NET_LOG_FILE_PATH: join(folder, 'log'),
      ...env,
    },
  });
  return { status: result.status, out: result.stdout, err: result.stderr };
}

function refuses(words: readonly string[], message: RegExp, setting: Setting = {}): void {
  const { status, out, err } = sonde(words, setting);
  assert.equal(status, 2, `sonde ${words.join(' ')}: ${err}`);
  assert.match(err, message);
  assert.equal(out, '', 'a refusal stands on standard error alone');
  assert.doesNotMatch(err, /\n +at /, 'the operator is shown no stack');
}

const CONFIG_FLAGS = ['--config', '--data-dir', '--log-console', '--no-log-file', '--log-level'];
const COLLECTOR_FLAGS = ['--intake-host', '--intake-port', '--interval', '--tls'];
const REDUCER_FLAGS = ['--listen', '--metrics'];
const QUERY_FLAGS = ['--reducer', '--config', '--token', '--ca', '--data-dir', '--timeout'];

/** Command → flags that its help has to have. */
const COMMANDS: ReadonlyMap<string, readonly string[]> = new Map([
  ['run', ['--for', ...CONFIG_FLAGS, ...REDUCER_FLAGS, '--interval']],
  ['kernel-collector', [...CONFIG_FLAGS, ...COLLECTOR_FLAGS]],
  ['start', ['--config', '--metrics', '--interval', '--log-level']],
  ['reducer', [...CONFIG_FLAGS, ...REDUCER_FLAGS]],
  ['query', ['--format', '--fresh', ...QUERY_FLAGS]],
  ['top', ['--sort', '--once', ...QUERY_FLAGS]],
  ['doctor', ['--json', '--grant', ...CONFIG_FLAGS, ...COLLECTOR_FLAGS, ...REDUCER_FLAGS]],
  ['ledger', ['--json', ...QUERY_FLAGS]],
  ['catalog', QUERY_FLAGS],
  ['detach', [...CONFIG_FLAGS]],
  ['cgroup-demo', ['--every', '--rate', '--for']],
  ['profile', ['--seconds', '--frequency', '--format', '--pid', '--output']],
]);

test('--help, and no words at all, list the commands', () => {
  for (const words of [['--help'], ['-h'], ['help'], []]) {
    const { status, out, err } = sonde(words);
    assert.deepEqual([status, err], [0, ''], words.join(' '));
    for (const name of COMMANDS.keys()) assert.match(out, new RegExp(`^ {2}${name} `, 'm'));
  }
});

test('every command that --help lists is known here', () => {
  const listed = sonde(['--help']).out.matchAll(/^ {2}([a-z-]+) \[/gm);
  const names = [...listed].map(([, name]) => name).filter((name) => name !== 'help');
  assert.deepEqual(names.sort(), [...COMMANDS.keys()].sort());
});

test('--version prints the version of the package, and nothing else', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  for (const flag of ['--version', '-V']) {
    assert.deepEqual(sonde([flag]), { status: 0, out: `${version}\n`, err: '' });
  }
});

for (const [name, flags] of COMMANDS) {
  test(`${name} --help lists its options`, () => {
    const { status, out, err } = sonde([name, '--help']);
    assert.deepEqual([status, err], [0, '']);
    assert.match(out, new RegExp(`^Usage: sonde ${name} `));
    for (const flag of flags) assert.match(out, new RegExp(`^ {2}(-., )?${flag}\\b`, 'm'), flag);
  });
}

test('an unknown command is refused with a hint', () => {
  refuses(['doctr'], /unknown command 'doctr'\n\(Did you mean doctor\?\)/);
  refuses(['help', 'doctr'], /unknown command 'doctr'\n\(Did you mean doctor\?\)/);
  refuses(['frobnicate'], /unknown command 'frobnicate'\n\(sonde --help lists the commands\)/);
});

test('an unknown option, a missing or a further word are refused, by commands too', () => {
  refuses(['--frob'], /unknown option '--frob'/);
  refuses(
    ['run', '--intervall', '5s'],
    /unknown option '--intervall'\n\(Did you mean --interval\?\)/,
  );
  refuses(['kernel-collector', '--listen', ':1'], /unknown option '--listen'/);
  refuses(['query'], /missing required argument 'sql'/);
  refuses(['ledger', 'all'], /too many arguments for 'ledger'/);
  refuses(['run', '--interval'], /option '--interval <duration>' argument missing/);
});

test('values that mean nothing are refused, with what would', () => {
  refuses(['query', 'SELECT 1', '--format', 'xml'], /--format xml: take one of table, json, csv/);
  refuses(['query', 'SELECT 1', '--timeout', 'soon'], /--timeout soon: give a number of seconds/);
  refuses(['query', 'SELECT 1', '--reducer', 'here'], /--reducer here: write HOST:PORT/);
  refuses(['query', 'SELECT 1', '--token', 'schlüssel'], /^sonde: the token cannot be sent/);
  if (is_root) refuses(['profile', '--output', '/none/such'], /\/none\/such cannot be written/);
  if (is_root) refuses(['profile', '--pid', '4194304'], /--pid 4194304: no such process/);
  refuses(['top', '--sort', 'size'], /--sort size: take one of read, written/);
  refuses(['run', '--for', 'ever'], /--for ever: give a number of seconds/);
  const seconds = /: give a number of seconds above 0, 2000000 at most/;
  refuses(['run', '--for', '2147484'], seconds); // more than a timer holds
  refuses(['query', 'SELECT 1', '--timeout', '2200000'], seconds);
  refuses(['reducer', '--interval', '5s'], /unknown option '--interval'/);
  refuses(
    ['run', '--interval', '5'],
    /--interval: collector\.interval: "5" is no duration; write a number and a unit/,
  );
});

test('doctor --grant prints lines for the sources that are named, and knows no others', () => {
  const { status, out, err } = sonde(['doctor', '--grant', 'tcp']);
  assert.deepEqual([status, err], [0, '']);
  assert.match(out, /setcap cap_bpf,cap_perfmon\+ep /);
  assert.match(sonde(['doctor', '--grant']).out, /AmbientCapabilities=.*CAP_NET_ADMIN/);
  const json = JSON.parse(sonde(['doctor', '--grant', '--json', 'tcp']).out);
  assert.deepEqual(json.sources, ['tcp']);
  refuses(['doctor', '--grant', 'tcpp'], /tcpp is no source; take of tcp/);
  refuses(['doctor', 'tcp'], /names of sources go with --grant/);
});

test('kernel-collector without a reducer names the variable', () => {
  refuses(['kernel-collector'], /EBPF_NET_INTAKE_HOST: collector\.intake_host: is not set/);
  const host = { EBPF_NET_INTAKE_HOST: '127.0.0.1' };
  refuses(['kernel-collector'], /^sonde: EBPF_NET_INTAKE_PORT: .* is not set/, { env: host });
});

test('a malformed port is refused with its place', () => {
  const env = { EBPF_NET_INTAKE_HOST: '127.0.0.1', EBPF_NET_INTAKE_PORT: '80oo' };
  refuses(['kernel-collector'], /EBPF_NET_INTAKE_PORT: collector\.intake_port: "80oo" is no port/, {
    env,
  });
  const words = ['--intake-host', '127.0.0.1', '--intake-port', '65536'];
  refuses(['kernel-collector', ...words], /--intake-port: .*"65536" is out of range/);
});

test('a faulty file is refused with line, column and cure', () => {
  const path = join(folder, 'faulty.yaml');
  writeFileSync(path, 'collector:\n  intervall: 5s\n');
  for (const name of ['run', 'kernel-collector', 'reducer', 'doctor', 'detach']) {
    refuses([name, '--config', path], /faulty\.yaml:2:3: collector\.intervall: is no known key; /);
  }
  refuses(['run', '--config', join(folder, 'nowhere')], /nowhere: cannot be read/);
});

test('plain text to another machine is refused until it is allowed by name', () => {
  const words = ['--intake-host', 'far.example', '--intake-port', '8000'];
  refuses(['kernel-collector', ...words], /"far\.example" .*plain text; turn TLS on, or allow/);
});

test('questions without a reducer say where they asked', () => {
  for (const words of [['query', 'SELECT 1'], ['ledger'], ['top', '--once']]) {
    const { status, err } = sonde([...words, '--reducer', '127.0.0.1:1']);
    assert.equal(status, 1, err);
    assert.match(err, /^sonde: no reducer answers at 127\.0\.0\.1:1 .*start `sonde run`/s);
  }
});

test('questions go to the reducer that the configuration names, as that of `sonde run`', () => {
  const file = join(folder, 'asked.yaml');
  writeFileSync(file, "reducer: { listen: '[::]:1' }\n");
  const intake = { EBPF_NET_INTAKE_HOST: '127.0.0.2', EBPF_NET_INTAKE_PORT: '2' };
  const both = { ...intake, SONDE_REDUCER_LISTEN: '0.0.0.0:3' };
  const cases: readonly (readonly [Record<string, string>, readonly string[], string])[] = [
    [intake, [], '127.0.0.2:2, as EBPF_NET_INTAKE_HOST says ('],
    [{ EBPF_NET_INTAKE_PORT: '2' }, [], '127.0.0.1:2, as EBPF_NET_INTAKE_PORT says ('],
    [both, [], '127.0.0.1:3, as SONDE_REDUCER_LISTEN says ('],
    [both, ['--reducer', '127.0.0.1:4'], '127.0.0.1:4 ('],
    [intake, ['--config', file], `[::1]:1, as ${file}:1:20 says (`],
  ];
  for (const [env, words, where] of cases) {
    const { status, err } = sonde(['ledger', ...words], { env });
    assert.equal(status, 1, err);
    assert.ok(err.startsWith(`sonde: no reducer answers at ${where}`), err);
  }
  refuses(['query', 'SELECT 1', '--config', join(folder, 'nowhere')], /nowhere: cannot be read/);
  refuses(['top', '--once'], /SONDE_REDUCER_LISTEN: reducer\.listen: "here" is no host:port/, {
    env: { SONDE_REDUCER_LISTEN: 'here' },
  });
});

test('without rights nothing is started, and each source names what it lacks', {
  skip: without_root,
}, () => {
  const env = { EBPF_NET_INTAKE_HOST: '127.0.0.1', EBPF_NET_INTAKE_PORT: '8000' };
  const log = join(folder, 'unborn.log');
  for (const words of [['run', '--for', '1'], ['kernel-collector']]) {
    const setting = { env: { ...env, EBPF_NET_LOG_FILE_PATH: log }, as_nobody: true };
    refuses(
      words,
      /tcp is missing CAP_BPF, CAP_PERFMON\n.*udp is missing .*CAP_NET_ADMIN/s,
      setting,
    );
    refuses(words, /CAP_PERFMON +every source: programs on tracepoints/, setting);
  }
  assert.throws(() => readFileSync(log), /ENOENT/, 'a refused start writes no log');
});

test('doctor works without root: what it may not ask it skips', { skip: without_root }, () => {
  const { status, out, err } = sonde(['doctor', '--json'], { as_nobody: true });
  assert.deepEqual([status, err], [1, '']);
  const report = JSON.parse(out);
  assert.deepEqual([report.schema, report.verdict], [1, 'fail']);
  const state = (id: string) =>
    report.checks
      .filter((check: { id: string }) => check.id === id)
      .map(({ subject, state: found }: { subject: string; state: string }) => [subject, found]);
  const wanted = probes.map((probe) => [probe.name, probe.enabled_default !== false] as const);
  assert.deepEqual(
    state('capabilities'),
    wanted.map(([name, on]) => [name, on ? 'fail' : 'skip']),
  );
  assert.deepEqual(
    state('source'),
    wanted.map(([name]) => [name, 'skip']),
  );
});

test('doctor prints a line a check, the cure under what is ill, and a verdict', () => {
  const { out } = sonde(['doctor', '--intake-host', 'no.invalid', '--allow-plaintext']);
  assert.match(out, /^ok {4}linux +Linux$/m);
  assert.match(out, /^fail {2}intake +no\.invalid:8000: the name does not resolve/m);
  assert.match(out, /^ +cure: Set collector\.intake_host/m);
  assert.match(out, /^\d+ failed \(.*intake.*\); \d+ ok, \d+ to look at, \d+ not asked\.$/m);
});
