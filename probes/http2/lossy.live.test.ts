// Segments that are lost before a socket sees them: at the begin of each connection a certain one, later any.

import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import test from 'node:test';
import { promisify } from 'node:util';
import { expected, type Row, shown } from '../../test/h2.ts';
import { NO_LIVE, settles, startLive } from '../../test/live.ts';
import type { Truth } from '../../test/traffic/h2.ts';
import { haveIp } from '../../test/traffic/traffic.ts';

const PAIR = join(import.meta.dirname, '../../test/traffic/h2-pair.ts');
const NO_LOSS =
  NO_LIVE ||
  (!haveIp() && 'needs ip') ||
  (spawnSync('nft', ['--version']).status !== 0 && 'needs nft') ||
  false;
const ROUNDS = 6;

/** By what is lost: a rule of what goes to a socket. */
const LOSSES = {
  'the last step of the handshake: the preface comes to the listening socket':
    'ct direction original ct original packets 2 drop',
  'the preface: what follows it comes first': 'ct direction original ct original packets 3 drop',
  'the preface and what follows it': 'ct direction original ct original packets 3-4 drop',
  "the server's first data": 'ct direction reply ct reply packets 2 drop',
  "the server's second and third": 'ct direction reply ct reply packets 3-4 drop',
  'one segment in fifty, behind the begin':
    'ct original packets > 8 ct reply packets > 8 numgen random mod 50 == 0 drop',
};

function lose(netns: string, rule: string): void {
  const inside = ['netns', 'exec', netns];
  const rules = `table inet loss {
    chain in {
      type filter hook input priority 0
      meta l4proto tcp ${rule}
    }
  }`;
  // Brings the module that the counts need, if it is not there.
  execFileSync('ip', [...inside, 'nft', '-f', '-'], { input: rules });
  const counts = 'echo 1 > /proc/sys/net/netfilter/nf_conntrack_acct';
  execFileSync('ip', [...inside, 'sh', '-c', counts]);
}

test('HTTP/2 over a network that loses', { skip: NO_LOSS }, async (t) => {
  const live = await startLive(t, { collector: { probes: { http2: { enabled: true } } } });
  for (const [n, [name, rule]] of Object.entries(LOSSES).entries()) {
    await t.test(name, async (s) => {
      const netns = `sonde-h2-${process.pid}-${n}`;
      execFileSync('ip', ['netns', 'add', netns]);
      s.after(() => execFileSync('ip', ['netns', 'del', netns]));
      execFileSync('ip', ['-n', netns, 'link', 'set', 'lo', 'up']);
      lose(netns, rule);
      const pair = [process.execPath, PAIR, String(ROUNDS)];
      const child = promisify(execFile)('ip', ['netns', 'exec', netns, ...pair], {
        maxBuffer: 1 << 26,
      });
      const { port, truths } = JSON.parse((await child).stdout) as Said;
      const both = expected(truths).map(withoutPid);
      await settles(
        () => live.collector.flush(),
        () => Object.values(shown(live, port)).map((rows) => rows.map(withoutPid)),
        [both, both],
      );
    });
  }
});

interface Said {
  readonly port: number;
  readonly truths: readonly Truth[];
}

/** The programs' own is not at hand, and all rows have it. */
const withoutPid = ({ pid: _, ...row }: Row): Row => row;
