// What is tried in a bare root, and what must come of it. Each gets what a new machine has and a clone of the project.

import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { CLONE, type Ended, REPOSITORY, runIn } from './roots.ts';

/** Sentences about what is not as promised; none: all is well. */
export type Faults = readonly string[];

export interface Step {
  readonly name: string;
  readonly about: string;
  readonly run: (root: string, say: (text: string) => void) => Promise<Faults>;
}

const CLONING = `git clone -q ${REPOSITORY} ${CLONE} && cd ${CLONE}`;

/** Lines with which set-up tells of work; a machine that is set up hears none. */
export function setupSteps(text: string): readonly string[] {
  return text.split('\n').filter((line) => /^sonde set-up: (?!mounting)/.test(line));
}

/** The rows of the live tables, and of the table at the end, that tell of a local port. */
export function rowsAt(text: string, port: number): readonly string[] {
  const local = new RegExp(`^\\S+ +\\d+ +incoming +tcp +\\S+:${port} +\\S+ +[1-9]`);
  return text.split('\n').filter((line) => local.test(line));
}

/** What `npm test` closes with, and why tests were skipped. */
export function closing(text: string): { counts: Record<string, number>; reasons: Faults } {
  const counts = [...text.matchAll(/^ℹ (tests|pass|fail|cancelled|skipped) (\d+)$/gm)];
  const skipped = [...text.matchAll(/^ *﹣ (.+?) \([\d.]+ms\) # (.*)$/gm)];
  return {
    counts: Object.fromEntries(counts.map(([, name = '', count]) => [name, Number(count)])),
    reasons: [...new Set(skipped.map(([, , reason = '']) => reason))].sort(),
  };
}

function unless(holds: boolean, fault: string): Faults {
  return holds ? [] : [fault];
}

/** Requests to a server of our own until told to stop: something to see that is no part of sonde. */
async function traffic(): Promise<{ port: number; stop: () => void }> {
  const server = createServer((_, response) => response.end('seen'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo; // it listens on TCP
  const asking = setInterval(() => {
    get({ host: '127.0.0.1', port, agent: false }, (response) => response.resume());
  }, 50);
  const stop = (): void => {
    clearInterval(asking);
    server.closeAllConnections();
    server.close();
  };
  return { port, stop };
}

const LIMIT_MS = 20 * 60_000;

/** `npm start` until its table shows our traffic, then Ctrl-C. */
async function startUntilSeen(
  root: string,
  before: string,
  say: (text: string) => void,
): Promise<{ ended: Ended; port: number }> {
  const { port, stop } = await traffic();
  try {
    let seen = '';
    let interrupted = false;
    const running = runIn(root, `${before} && exec npm start`, {
      onText: (text) => {
        seen += text;
        say(text);
        if (interrupted || rowsAt(seen, port).length === 0) return;
        interrupted = true;
        running.interrupt();
      },
    });
    const limit = new AbortController();
    void delay(LIMIT_MS, undefined, { signal: limit.signal, ref: false }).then(
      () => running.kill(),
      () => undefined, // it ended in time
    );
    const ended = await running.ended;
    limit.abort();
    return { ended, port };
  } finally {
    stop();
  }
}

/** What is wrong with a start that was interrupted: npm ends by the signal, sonde with a last table before it. */
export function startFaults({ status, text }: Ended, port: number): Faults {
  const tables = text.split(/^process +pid .*$/m).slice(1);
  const seen = tables.map((table) => rowsAt(table, port).length > 0);
  return [
    ...unless([0, 130].includes(status), `status ${status} after Ctrl-C`),
    ...unless(seen.includes(true), 'our requests are in no table'),
    ...unless(!seen.includes(true) || (seen.at(-1) ?? false), 'there is no table at the end'),
    ...unless(/^sonde: collector: tcp on$/m.test(text), 'tcp is not on'),
  ];
}

async function start(root: string, say: (text: string) => void): Promise<Faults> {
  const first = await startUntilSeen(root, CLONING, say);
  const faults = startFaults(first.ended, first.port);
  if (faults.length > 0) return faults.map((fault) => `npm start: ${fault}`);
  const again = await startUntilSeen(root, `cd ${CLONE}`, say);
  return [
    ...startFaults(again.ended, again.port),
    ...setupSteps(again.ended.text).map((line) => `takes a step: ${line}`),
  ].map((fault) => `second npm start: ${fault}`);
}

async function wholeTest(root: string, say: (text: string) => void): Promise<Faults> {
  const { status, text } = await runIn(root, `${CLONING} && npm test`, { onText: say }).ended;
  const { counts, reasons } = closing(text);
  say(`skipped for these reasons:\n${reasons.map((reason) => `  ${reason}\n`).join('')}`);
  const failed = (counts.fail ?? 0) + (counts.cancelled ?? 0);
  return [
    ...unless(status === 0, `npm test: status ${status}`),
    ...unless((counts.pass ?? 0) > 0, 'npm test: nothing passed'),
    ...unless(failed === 0, `npm test: ${failed} failed`),
  ];
}

/** Says each command's status, so that one script can try several. */
function tried(command: string): string {
  return `${command}; echo "status of ${command}: $?"`;
}

const BY_USER = ['./sonde run', 'npm start'];

/** An ordinary user, on a machine whose packages root has installed. */
async function user(root: string, say: (text: string) => void): Promise<Faults> {
  const commands = ['./sonde run', 'npm start', 'npm run setup', ...BY_USER].map(tried);
  const script = `${CLONING} && npm run setup && useradd -m guest && cd ~guest &&
    cp -r ${REPOSITORY} sonde.git && cp ~/.npmrc . && chown -R guest . &&
    setpriv --reuid guest --regid guest --clear-groups env HOME=$PWD sh -c '
      id -u; git clone -q sonde.git sonde && cd sonde; ${commands.join('\n')}'`;
  const { text } = await runIn(root, script, { onText: say }).ended;
  const statuses = [...text.matchAll(/^status of (.*): (\d+)$/gm)].map(([, what, status]) => {
    return `${what} ${status}`;
  });
  const expected = ['./sonde run 2', 'npm start 2', 'npm run setup 0'];
  expected.push(...BY_USER.map((command) => `${command} 2`));
  return [
    ...unless(
      statuses.join() === expected.join(),
      `statuses are ${statuses.join()}; expected ${expected.join()}`,
    ),
    ...unless(/this checkout is not set up yet/.test(text), 'no word that set-up is missing'),
    ...unless(/^sonde: +tcp is missing CAP_BPF/m.test(text), 'the missing rights are not named'),
  ];
}

/** Neither a package list nor a network: the machine hears why, and what to look at. */
async function offline(root: string, say: (text: string) => void): Promise<Faults> {
  const script = `${CLONING} && npm start`;
  const { status, text } = await runIn(root, script, { onText: say, network: false }).ended;
  return [
    ...unless(status === 2, `npm start without a network: status ${status}`),
    ...unless(/package registry cannot be reached/.test(text), 'the cause is not named'),
    ...unless(/check the network and the proxy/.test(text), 'the cure is not named'),
  ];
}

export const steps: readonly Step[] = [
  { name: 'start', about: 'npm start by root, twice, each until its table shows us', run: start },
  { name: 'test', about: 'npm test where nothing was set up', run: wholeTest },
  { name: 'user', about: 'an ordinary user is told which rights are missing', run: user },
  { name: 'offline', about: 'set-up without a network names the cure', run: offline },
];
