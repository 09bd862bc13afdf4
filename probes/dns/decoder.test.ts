// Golden bytes → columns, and what becomes of queries: each counted once, whatever is lost, late, repeated or older.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { PrometheusOutlet } from '../../src/outlet/prometheus.ts';
import { dns_record } from '../layout.gen.ts';
import {
  Bench,
  NOW_MS,
  type Packet,
  packet,
  rowsOf,
  SECOND,
  SENT,
  TCP,
  TIMEOUT_MS,
  UDP,
} from './bench.ts';
import { dnsflow } from './dnsflow.ts';
import {
  name as dnsName,
  joined,
  message,
  pointer,
  RESPONSE,
  record,
  TRUNCATED,
  u16,
} from './testing.ts';

const SEED = 20_260_128;
const QUESTION = 12;

test('golden bytes become this row, and these lines of exposition', async () => {
  const bench = new Bench();
  bench.ask(7, 'WWW.Example');
  bench.reply(7, 'www.example', {}, RESPONSE | TRUNCATED | 3);
  const batch = bench.batch();
  assert.deepEqual(rowsOf(batch), [
    {
      direction: 'outgoing',
      transport: 'udp',
      family: 'IPv4',
      src_ip: '10.21.32.43',
      src_port: 0,
      src_ip_type: 'private',
      dst_ip: '192.0.2.53',
      dst_port: 53,
      dst_ip_type: 'other',
      rcode: 3,
      domain: 'www.example',
      query_type: 'A',
      pid: 4242,
      process_name: 'curl',
      cgroup_id: 0x0002_1324_3546,
      cgroup_path: '/user.slice',
      container_id: 'c0ffee',
      netns: 0xf001_0203,
      dst_domain: '',
      count: 1,
      latency: 2000,
      latency_max: 2000,
      latency_samples: 1,
      latency_distribution: 2000,
      truncated: 1,
      retransmits: 0,
      late_answers: 0,
      unmatched: 0,
      bytes_query: 29,
      bytes_answer: 29,
    },
  ]);
  const outlet = new PrometheusOutlet([dnsflow]);
  outlet.add(batch!, 'here', NOW_MS);
  const lines = (await outlet.text()).split('\n').filter((line) => /^\w*dns\w*_count/.test(line));
  assert.ok(
    lines.some((line) => line.includes('rcode="3"')),
    lines.join('\n'),
  );
});

const COUNTS = ['direction', 'rcode', 'count', 'pid'];

test('at a server: who asked is the peer, and who answers the owner', () => {
  const bench = new Bench();
  const server = { local_port: 53, peer_port: 40_000 };
  bench.ask(7, 'a.example', { ...server, flags: 0 });
  bench.reply(7, 'a.example', { ...server, flags: SENT });
  assert.deepEqual(bench.rows(...COUNTS, 'src_port', 'dst_port', 'process_name'), [
    {
      ...{ direction: 'incoming', rcode: 0, count: 1, pid: 4242 },
      ...{ src_port: 53, dst_port: 0, process_name: 'curl' },
    },
  ]);
});

test('clients of one server with one identifier are told apart', () => {
  const bench = new Bench();
  for (const peer of [1, 2]) {
    bench.ask(7, `p${peer}.x`, { local_port: 53, peer_port: 40_000, flags: 0, peer });
  }
  bench.reply(7, 'p2.x', { local_port: 53, peer_port: 40_000, flags: SENT, peer: 2 });
  assert.deepEqual(bench.rows('domain', 'dst_ip'), [{ domain: 'p2.x', dst_ip: '192.0.2.2' }]);
  assert.equal(bench.decoder.waiting, 1);
});

test('no answer: timed out once the time is over, never before', () => {
  const bench = new Bench();
  bench.ask(7);
  bench.now_ns += TIMEOUT_MS * 1e6 - 1;
  bench.decoder.tick(NOW_MS);
  assert.deepEqual(bench.rows(...COUNTS), []);
  bench.now_ns += 1;
  bench.decoder.tick(NOW_MS);
  bench.decoder.tick(NOW_MS);
  assert.deepEqual(bench.rows(...COUNTS, 'latency_samples'), [
    { direction: 'outgoing', rcode: -1, count: 1, pid: 4242, latency_samples: 0 },
  ]);
  bench.reply(7, 'a.example', { time_ns: bench.now_ns + SECOND });
  assert.deepEqual(bench.rows('rcode', 'count', 'late_answers'), [
    { rcode: -1, count: 0, late_answers: 1 },
  ]);
});

test('an answer after the time is over is no answer, though nobody had looked', () => {
  const bench = new Bench();
  bench.ask(7);
  bench.reply(7, 'a.example', { time_ns: 100 * SECOND + TIMEOUT_MS * 1e6 });
  assert.deepEqual(bench.rows('rcode', 'count', 'late_answers', 'latency_samples'), [
    { rcode: -1, count: 1, late_answers: 1, latency_samples: 0 },
  ]);
});

test('each transmission counts: the last one is answered, the first one timed out', () => {
  const bench = new Bench();
  bench.ask(7);
  bench.ask(7, 'a.example', { time_ns: 103 * SECOND });
  bench.reply(7, 'a.example', { time_ns: 103 * SECOND + 500 });
  bench.now_ns = 110 * SECOND;
  bench.decoder.tick(NOW_MS);
  assert.deepEqual(bench.rows('rcode', 'count', 'retransmits', 'latency_max'), [
    { rcode: 0, count: 1, retransmits: 1, latency_max: 500 },
    { rcode: -1, count: 1, retransmits: 0, latency_max: Number.NaN },
  ]);
});

test('one question to two servers, from one socket with one identifier', () => {
  const bench = new Bench();
  for (const peer of [1, 2]) bench.ask(7, 'a.example', { peer });
  bench.reply(7, 'a.example', { peer: 1, time_ns: 100 * SECOND + 900 });
  assert.deepEqual(bench.rows('dst_ip', 'latency_max'), [
    { dst_ip: '192.0.2.1', latency_max: 900 },
  ]);
  bench.reply(7, 'a.example', { peer: 2 });
  assert.deepEqual(bench.rows('dst_ip', 'latency_max'), [
    { dst_ip: '192.0.2.2', latency_max: 2000 },
  ]);
});

test('a second answer to a query is noted, not counted', () => {
  const bench = new Bench();
  bench.ask(7);
  bench.reply(7);
  bench.reply(7);
  assert.deepEqual(bench.rows('count'), [{ count: 1 }]);
  assert.deepEqual(bench.notes, ['dns_answers_repeated 1']);
});

test('after a restart: an answer to what nobody saw counts, and no time-out is made up', () => {
  const before = new Bench();
  before.ask(7);
  const after = new Bench(); // it knows nothing of that query
  after.reply(7);
  after.now_ns += 60 * SECOND;
  after.decoder.tick(NOW_MS);
  assert.deepEqual(after.rows('rcode', 'count', 'unmatched', 'latency_samples'), [
    { rcode: 0, count: 1, unmatched: 1, latency_samples: 0 },
  ]);
});

test('records were lost: what waited then did not time out for certain, and the ledger says so', () => {
  const bench = new Bench();
  bench.ask(7);
  bench.decoder.lostRecords(3);
  bench.ask(8, 'a.example', { time_ns: 101 * SECOND });
  bench.decoder.lostRecords(3);
  bench.now_ns += 60 * SECOND;
  bench.decoder.tick(NOW_MS);
  assert.deepEqual(bench.rows('rcode', 'count'), [{ rcode: -1, count: 1 }]);
  assert.deepEqual(bench.notes, ['dns_queries answer_may_be_lost 1']);
});

test('the collector ends: queries that are open then are no time-outs, and accounted for', () => {
  const bench = new Bench();
  for (const id of [7, 8]) bench.ask(id);
  bench.decoder.tick(NOW_MS, true);
  assert.deepEqual(bench.rows('count'), []);
  assert.deepEqual(bench.notes, ['dns_queries open_at_end 2']);
});

test('names beyond the limit of an interval are one; the next interval has its own', () => {
  const bench = new Bench(2);
  for (let id = 0; id < 5; id += 1) {
    bench.ask(id, `n${id}.x`);
    bench.reply(id, `n${id}.x`);
  }
  bench.decoder.tick(NOW_MS);
  const names = bench.rows('domain', 'count');
  assert.deepEqual(names, [
    { domain: 'n0.x', count: 1 },
    { domain: 'n1.x', count: 1 },
    { domain: '<other>', count: 3 },
  ]);
  assert.equal(bench.notes.filter((note) => note === 'dns_domain_other 1').length, 3);
  bench.ask(9, 'n9.x');
  bench.reply(9, 'n9.x');
  assert.deepEqual(bench.rows('domain'), [{ domain: 'n9.x' }]);
});

test('what a client learned: the name asked for, over aliases, as long as the shortest says', () => {
  const bench = new Bench();
  bench.ask(7, 'www.x');
  const alias = joined([Uint8Array.of(3), Buffer.from('cdn'), pointer(QUESTION + 4)]);
  const answers = [
    record(alias, 1, 3600, Uint8Array.of(203, 0, 113, 1)), // before its alias
    record(pointer(QUESTION), 5, 60, alias),
    record(pointer(QUESTION + 4), 1, 3600, Uint8Array.of(203, 0, 113, 2)), // of another name
  ];
  const bytes = message({ id: 7, flags: RESPONSE, questions: [['www.x', 1]], answers });
  assert.ok(bench.take(packet(bytes, { flags: 0, time_ns: 100 * SECOND + 1 })));
  const find = (ip: string, ms: number, netns = 0xf001_0203) =>
    bench.domains.find(netns, ip, NOW_MS + ms);
  assert.equal(find('203.0.113.1', 59_000), 'www.x');
  assert.equal(find('203.0.113.1', 59_000, 1), '', 'another namespace');
  assert.equal(find('203.0.113.2', 0), '');
  assert.equal(find('203.0.113.1', 3_000_000), '', 'its time is over');
});

test('an answer that nobody asked for teaches nothing', () => {
  const bench = new Bench();
  const answers = [record(pointer(QUESTION), 1, 60, Uint8Array.of(203, 0, 113, 9))];
  const bytes = message({ id: 1, flags: RESPONSE, questions: [['evil.x', 1]], answers });
  assert.ok(bench.take(packet(bytes, { flags: 0 })));
  assert.equal(bench.domains.size, 0);
});

test('an answer to another question is not the query’s answer, and teaches nothing', () => {
  const bench = new Bench();
  const address = [record(pointer(QUESTION), 1, 60, Uint8Array.of(203, 0, 113, 9))];
  const reply = (name: string, type: number) => {
    const bytes = message({ id: 7, flags: RESPONSE, questions: [[name, type]], answers: address });
    assert.ok(bench.take(packet(bytes, { flags: 0, time_ns: 100 * SECOND + 1 })));
  };
  bench.ask(7, 'good.x');
  reply('evil.x', 1);
  reply('good.x', 28);
  assert.equal(bench.domains.size, 0);
  assert.equal(bench.decoder.waiting, 1);
  reply('GOOD.x', 1);
  reply('evil.x', 1);
  assert.equal(bench.domains.find(0xf001_0203, '203.0.113.9', NOW_MS), 'good.x');
  assert.deepEqual(bench.rows('domain', 'query_type', 'count', 'unmatched'), [
    { domain: 'evil.x', query_type: 'A', count: 2, unmatched: 2 },
    { domain: 'good.x', query_type: 'AAAA', count: 1, unmatched: 1 },
    { domain: 'good.x', query_type: 'A', count: 1, unmatched: 0 },
  ]);
});

test('an answer that repeats no question is matched by its identifier, for the name that was asked', () => {
  const bench = new Bench();
  bench.ask(7, 'a.x');
  const answers = [
    record(dnsName('a.x'), 1, 60, Uint8Array.of(203, 0, 113, 1)),
    record(dnsName('b.x'), 1, 60, Uint8Array.of(203, 0, 113, 2)),
  ];
  const bytes = message({ id: 7, flags: RESPONSE, answers });
  for (const _ of [1, 2]) {
    assert.ok(bench.take(packet(bytes, { flags: 0, time_ns: 100 * SECOND + 1 })));
  }
  assert.equal(bench.domains.find(0xf001_0203, '203.0.113.1', NOW_MS), 'a.x');
  assert.equal(bench.domains.size, 1);
  assert.deepEqual(bench.rows('domain', 'count', 'unmatched'), [
    { domain: 'a.x', count: 1, unmatched: 0 },
  ]);
  assert.deepEqual(bench.notes, ['dns_answers_repeated 1']);
});

for (const at of ['a client', 'a server']) {
  test(`two questions with one identifier at ${at}: each has its own answer, neither repeats`, () => {
    const bench = new Bench();
    const of = at === 'a server' ? { local_port: 53, peer_port: 40_000 } : {};
    const [asks, answers] = at === 'a server' ? [0, SENT] : [SENT, 0];
    for (const name of ['slow.x', 'quick.x']) bench.ask(7, name, { ...of, flags: asks });
    const reply = (name: string, time_ns: number, rcode = 0) =>
      bench.reply(7, name, { ...of, flags: answers, time_ns }, RESPONSE | rcode);
    reply('quick.x', 100 * SECOND + 500);
    reply('slow.x', 101 * SECOND, 3);
    assert.deepEqual(bench.rows('domain', 'rcode', 'count', 'latency_max', 'retransmits'), [
      { domain: 'quick.x', rcode: 0, count: 1, latency_max: 500, retransmits: 0 },
      { domain: 'slow.x', rcode: 3, count: 1, latency_max: SECOND, retransmits: 0 },
    ]);
    reply('slow.x', 102 * SECOND);
    assert.deepEqual(bench.notes, ['dns_answers_repeated 1']);
  });
}

test('a zone’s transfer is one query, with the bytes of all its messages', () => {
  const bench = new Bench();
  const [axfr, more] = [message({ id: 7, questions: [['a.x', 252]] }), { flags: RESPONSE, id: 7 }];
  const answers = [record(dnsName('a.x'), 1, 60, Uint8Array.of(203, 0, 113, 1))];
  const first = message({ ...more, questions: [['a.x', 252]], answers });
  const next = message({ ...more, answers: [...answers, ...answers] });
  const framed = (bytes: Uint8Array) => joined([u16(bytes.length), bytes]);
  assert.ok(bench.take(packet(framed(axfr), { transport: TCP })));
  const times = { flags: 0, transport: TCP, time_ns: 100 * SECOND + 500 };
  assert.ok(bench.take(packet(joined([first, next].map(framed)), times)));
  const late = { ...times, time_ns: 150 * SECOND, seq: first.length + next.length + 4 };
  assert.ok(bench.take(packet(framed(next), late)));
  assert.deepEqual(bench.rows('domain', 'query_type', 'count', 'bytes_answer', 'latency_max'), [
    {
      ...{ domain: 'a.x', query_type: 'AXFR', count: 1, latency_max: 500 },
      bytes_answer: first.length + 2 * next.length,
    },
  ]);
  assert.deepEqual(bench.notes, []);
});

test('over TCP: two queries in a segment, answers in pieces', () => {
  const bench = new Bench();
  const framed = (bytes: Uint8Array) => joined([u16(bytes.length), bytes]);
  const queries = [1, 2].map((id) => framed(message({ id, questions: [[`t${id}.x`, 1]] })));
  assert.ok(bench.take(packet(joined(queries), { transport: TCP, seq: 1000 })));
  const replies = joined(
    [2, 1].map((id) => framed(message({ id, flags: RESPONSE, questions: [[`t${id}.x`, 1]] }))),
  );
  for (const [from, to] of [
    [0, 1],
    [1, 30],
    [30, replies.length],
  ] as const) {
    const of = { transport: TCP, flags: 0, seq: 77 + from, time_ns: 100 * SECOND + to };
    assert.ok(bench.take(packet(replies.subarray(from, to), of)));
  }
  assert.deepEqual(bench.rows('transport', 'domain', 'count', 'unmatched'), [
    { transport: 'tcp', domain: 't2.x', count: 1, unmatched: 0 },
    { transport: 'tcp', domain: 't1.x', count: 1, unmatched: 0 },
  ]);
});

test('over TCP: a query that came before its connection had an owner times out with the owner of later', () => {
  const bench = new Bench();
  let seq = 1000;
  const framed = (id: number, of: Packet, flags?: number) => {
    const one = message({ id, questions: [[`t${id}.x`, 1]], ...(flags && { flags }) });
    const bytes = joined([u16(one.length), one]);
    const ends = { transport: TCP, local_port: 53, peer_port: 40_000 };
    assert.ok(bench.take(packet(bytes, { ...ends, seq, ...of })));
    seq += bytes.length;
  };
  framed(1, { flags: 0, tgid: 0 });
  framed(2, { flags: 0, tgid: 77 });
  framed(3, { flags: 0, tgid: 0, cookie: 99 }); // nothing more of that connection
  framed(4, { flags: 0, tgid: 0, cookie: 100, time_ns: 90 * SECOND });
  framed(4, { flags: SENT, tgid: 88, cookie: 100 }, RESPONSE);
  bench.now_ns += 60 * SECOND;
  bench.decoder.tick(NOW_MS);
  assert.deepEqual(bench.rows('domain', 'rcode', 'pid', 'process_name', 'late_answers'), [
    { domain: 't4.x', rcode: -1, pid: 88, process_name: 'curl', late_answers: 1 },
    { domain: 't1.x', rcode: -1, pid: 77, process_name: 'curl', late_answers: 0 },
    { domain: 't2.x', rcode: -1, pid: 77, process_name: 'curl', late_answers: 0 },
    { domain: 't3.x', rcode: -1, pid: 0, process_name: '', late_answers: 0 },
  ]);
});

test('what is no DNS, or goes the wrong way, is counted and makes no row', () => {
  const bench = new Bench();
  assert.ok(bench.take(packet(Uint8Array.of(1, 2, 3))));
  bench.ask(7, 'a.x', { peer_port: 40_000, local_port: 53 }); // sent from port 53
  assert.deepEqual(bench.rows('count'), []);
  assert.deepEqual(bench.notes, ['dns_messages no_header 1', 'dns_messages wrong_way 1']);
  assert.equal(bench.take(new Uint8Array(dns_record.SIZE - 1)), false);
  const lies = packet(new Uint8Array(12));
  new DataView(lies.buffer).setUint16(dns_record.captured, 600, true);
  assert.equal(bench.take(lies), false);
});

test(`no payload makes it throw, seed ${SEED}`, () => {
  const bench = new Bench();
  const cases = fc.record({
    payload: fc.uint8Array({ maxLength: 300 }),
    transport: fc.constantFrom(UDP, TCP, 0),
    flags: fc.constantFrom(0, SENT),
    port: fc.constantFrom(53, 4000),
  });
  fc.assert(
    fc.property(cases, ({ payload, transport, flags, port }) => {
      assert.ok(bench.take(packet(payload, { transport, flags, peer_port: port, local_port: 53 })));
    }),
    { seed: SEED, numRuns: 10_000 },
  );
  bench.now_ns += 60 * SECOND;
  bench.decoder.tick(NOW_MS);
  assert.equal(bench.decoder.waiting, 0);
});
