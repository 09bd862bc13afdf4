import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after } from 'node:test';
import { ConfigError } from './error.ts';
import { configKeys } from './keys.ts';
import { type LoadOptions, loadConfig } from './load.ts';
import { disagreements, intakeOf, reducerAt, speaksTls } from './role.ts';

const dir = mkdtempSync(join(tmpdir(), 'sonde-config-'));
const file = join(dir, 'sonde.yaml');
after(() => rmSync(dir, { recursive: true }));

const SOURCES = ['tcp', 'udp'];

function load(yaml: string, more: Partial<LoadOptions> = {}) {
  writeFileSync(file, yaml);
  return loadConfig({ role: 'run', file, sources: SOURCES, ...more });
}

/** The lines of the error, with the file's name shortened. */
function faults(yaml: string, more: Partial<LoadOptions> = {}): string[] {
  try {
    load(yaml, more);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.exit_code, 2);
    return error.message.replaceAll(file, 'F').split('\n');
  }
  return [];
}

test('defaults stand where nothing is given', () => {
  const { config, originOf } = loadConfig({ role: 'run', sources: SOURCES });
  assert.equal(config.collector.interval, 10_000);
  assert.equal(config.collector.ephemeral_port, 10_001);
  assert.equal(config.collector.host_dir, '/hostfs');
  assert.equal(config.collector.ring_bytes, 8 * 2 ** 20);
  assert.equal(config.log.file_path, '/var/log/ebpf_net.log');
  assert.equal(config.data_dir, process.cwd());
  assert.deepEqual(config.reducer.listen, { host: '127.0.0.1', port: 8000 });
  assert.deepEqual(config.reducer.metrics, { host: '127.0.0.1', port: 8888 });
  assert.deepEqual(config.collector.probes, { tcp: {}, udp: {} });
  assert.deepEqual(intakeOf(config), { host: '127.0.0.1', port: 8000 });
  assert.equal(originOf('collector.interval'), 'default');
});

test('a flag wins over a variable, a variable over the file, the file over the default', () => {
  const yaml = 'collector:\n  interval: 20s\n  probes: {udp: {enabled: false}}\nlog: {level: warn}';
  const env = {
    SONDE_COLLECTOR_INTERVAL: '30s',
    SONDE_LOG_LEVEL: '',
    SONDE_FAIL_SOURCE: 'tcp, udp',
  };
  const from_file = load(yaml);
  assert.equal(from_file.config.collector.interval, 20_000);
  assert.equal(from_file.originOf('collector.interval'), `${file}:2:13`);
  assert.deepEqual(from_file.config.collector.probes, {
    tcp: {},
    udp: { enabled: false },
  });
  const from_env = load(yaml, { env });
  assert.equal(from_env.config.collector.interval, 30_000);
  assert.equal(from_env.config.log.level, 'warn', 'an empty variable is none');
  assert.deepEqual(from_env.config.collector.fail_sources, ['tcp', 'udp']);
  assert.equal(from_env.originOf('collector.interval'), 'SONDE_COLLECTOR_INTERVAL');
  const flags = { '--interval': '40s', '--log-console': true, '--no-log-file': true };
  const { config } = load(yaml, { env, flags });
  assert.equal(config.collector.interval, 40_000);
  assert.deepEqual([config.log.console, config.log.file], [true, false]);
});

test('the variables of the documents', () => {
  const { config } = loadConfig({
    role: 'collector',
    sources: SOURCES,
    env: {
      EBPF_NET_INTAKE_HOST: '::1',
      EBPF_NET_INTAKE_PORT: '8000',
      EBPF_NET_HOST_DIR: '/h',
      EBPF_NET_DATA_DIR: '/d',
      EBPF_NET_LOG_FILE_PATH: '/l',
      SONDE_COLLECTOR_PROBES_UDP_ENABLED: 'false',
    },
  });
  assert.deepEqual(intakeOf(config), { host: '::1', port: 8000 });
  assert.equal(config.collector.host_dir, '/h');
  assert.equal(config.data_dir, '/d');
  assert.equal(config.log.file_path, '/l');
  assert.equal(config.collector.probes.udp.enabled, false);
});

test('the collector role needs its reducer, and says both at once', () => {
  assert.deepEqual(faults('', { role: 'collector' }), [
    "EBPF_NET_INTAKE_HOST: collector.intake_host: is not set; set it to the reducer's, for example EBPF_NET_INTAKE_HOST=192.168.0.101",
    "EBPF_NET_INTAKE_PORT: collector.intake_port: is not set; set it to the reducer's, for example EBPF_NET_INTAKE_PORT=8000",
  ]);
  const env = { EBPF_NET_INTAKE_HOST: '10.0.0.300', EBPF_NET_INTAKE_PORT: '80x0' };
  assert.deepEqual(faults('', { role: 'collector', env }), [
    'EBPF_NET_INTAKE_HOST: collector.intake_host: "10.0.0.300" is no host; give a host name, an IPv4 or an IPv6 address: reducer.example, ::1',
    'EBPF_NET_INTAKE_PORT: collector.intake_port: "80x0" is no port; give a whole number from 1 to 65535',
  ]);
});

test('hosts and ports, good and bad', () => {
  const fault = (host: string, port = '1') =>
    faults('collector: {allow_plaintext: true}', {
      role: 'collector',
      env: { EBPF_NET_INTAKE_HOST: host, EBPF_NET_INTAKE_PORT: port },
    }).length;
  for (const good of ['localhost', 'a.b-c.example', 'a.', '127.0.0.1', '::1', '[fe80::1]', 'x_y']) {
    assert.equal(fault(good), 0, good);
  }
  for (const bad of ['a b', '-a', 'a..b', '1.2.3', '[::1', '::g', 'h:80', '[::1]:80', 'ü', 'a/b']) {
    assert.equal(fault(bad), 1, bad);
  }
  for (const bad of ['0', '65536', '-1', '1.5', ' 80', '0x50', '99999999999999999999']) {
    assert.equal(fault('h', bad), 1, bad);
  }
  const listen = (text: string) => load(`reducer: {listen: "${text}", allow_plaintext: true}`);
  assert.deepEqual(listen('[::1]:0').config.reducer.listen, { host: '::1', port: 0 });
  assert.deepEqual(listen(':8000').config.reducer.listen, { host: '::', port: 8000 });
  for (const bad of ['::1:80', 'a', 'a:', 'a:70000', '[]:1', '1.2.3:4']) {
    assert.throws(() => listen(bad), ConfigError, bad);
  }
});

test('every fault of a file is told with line, column, value and cure', () => {
  const yaml = `
log:
  level: loud
  consol: true
collector:
  interval: 10
  ring_bytes: 3MiB
  spool_bytes_max: 1XB
  pin_path: /sys/fs/bpf/
  probes:
    tpc: {enabled: true}
    udp: {enabled: maybe}
  maps: [1]
`;
  assert.deepEqual(faults(yaml), [
    'F:3:10: log.level: "loud" is not one of the choices; choose from trace, debug, info, warn, error, fatal',
    'F:4:3: log.consol: is no known key; did you mean console?',
    'F:6:13: collector.interval: 10 is no duration; write a number and a unit, from 100ms to 1h: 10s',
    'F:9:13: collector.pin_path: "/sys/fs/bpf/" is no folder of its own; give a folder below bpffs: /sys/fs/bpf/sonde',
    'F:7:15: collector.ring_bytes: "3MiB" is no power of two; give 1MiB, 2MiB, 4MiB, 8MiB …',
    'F:8:20: collector.spool_bytes_max: "1XB" is no size; write a number and a unit, from 1MiB to 1000GB: 64MiB',
    'F:13:3: collector.maps: [1] is no section; give the keys of this section: sockets_max, processes_max, syscalls_max, process_totals_max',
    'F:12:20: collector.probes.udp.enabled: "maybe" is neither true nor false; write true or false',
  ]);
  assert.deepEqual(faults('collector: {probes: {tpc: {}}, fail_sources: [tpc]}'), [
    'F:1:22: collector.probes.tpc: "tpc" is no source; did you mean tcp?',
    'F:1:32: collector.fail_sources: "tpc" is no source; did you mean tcp?',
  ]);
});

test('what has no value is as if absent, under a name that is known', () => {
  const { config } = load('collector:\n  interval:\n  probes:\nreducer:\nlog: {level: }\n');
  assert.equal(config.collector.interval, 10_000);
  assert.equal(config.log.level, 'info');
  assert.deepEqual(faults('aa:\ncollector: {intervall: }\n'), [
    'F:2:13: collector.intervall: is no known key; did you mean interval?',
    'F:1:1: aa: is no known key; known here: data_dir, log, collector, reducer, agent',
  ]);
});

test('YAML itself: duplicates, tags, several documents, no mapping, comments only', () => {
  assert.deepEqual(faults('log: {level: info}\nlog: {level: warn}'), [
    'F:2:1: Map keys must be unique; mend the YAML there',
  ]);
  assert.match(faults('log: !!js/function x')[0], /^F:1:6: /);
  assert.deepEqual(faults('log: {}\n---\nlog: {}'), [
    'F:2:1: begins a second document, and one alone is read; mend the YAML there',
  ]);
  assert.match(faults('log: {level: "x')[0], /^F:1:/);
  assert.match(faults('- a')[0], /^F:1:1: holds no mapping/);
  assert.match(faults('x'.repeat(2 ** 20 + 1))[0], /^F: is longer than 1 MiB/);
  assert.deepEqual(faults('# nothing'), []);
  assert.deepEqual(faults('log:\n  # level: info\ncollector:\n  btf_path:\n'), []);
  assert.deepEqual(faults('', { file: join(dir, 'absent') }).length, 1);
});

test('a bomb of aliases is refused, not unfolded', () => {
  const lines = ['a: &a [x,x,x,x,x,x,x,x]'];
  for (let i = 1; i < 12; i++) {
    const [before, now] = [String.fromCharCode(96 + i), String.fromCharCode(97 + i)];
    lines.push(`${now}: &${now} [${`*${before},`.repeat(8)}]`);
  }
  assert.match(faults(lines.join('\n'))[0], /cannot be unfolded/);
});

test('merge keys bring the keys of an anchor, and those beside them win', () => {
  const { probes } = load('collector: {probes: {tcp: &a {enabled: false}, udp: {<<: *a}}}').config
    .collector;
  assert.deepEqual([probes.tcp?.enabled, probes.udp?.enabled], [false, false]);
  assert.equal(load('log: {<<: {level: warn}, level: error}').config.log.level, 'error');
  assert.deepEqual(faults('log: {<<: {levl: warn}}'), [
    'F:1:1: log.levl: is no known key; did you mean level?',
  ]);
  assert.match(faults('log: {<<: 5}')[0], /cannot be unfolded \(Merge sources must be maps/);
});

test('names of the prototype are keys like any other', () => {
  assert.match(faults('__proto__: {x: 1}')[0], /__proto__: is no known key/);
  assert.match(faults('log: {constructor: 1}')[0], /log.constructor: is no known key/);
});

test('a secret is never quoted', () => {
  const lines = faults('reducer: {token: [hunter2], store: {password: {a: hunter2}}}');
  assert.equal(lines.length, 2);
  assert.doesNotMatch(lines.join(), /hunter2/);
});

test('a token that no header can carry is refused where it stands', () => {
  const lines = faults('collector: {token: schlüssel}\nreducer: {token: "a\\nb"}');
  assert.match(lines[0], /collector\.token: cannot be sent in a header; give printable ASCII/);
  assert.match(lines[1], /reducer\.token: cannot be sent in a header/);
  assert.doesNotMatch(lines.join(), /schl/);
});

test('collectors.ebpf of the documents', () => {
  const yaml = `
collectors:
  ebpf:
    enabled: true
    interval: 30s
    btf_path: /b
    maps: {sockets_max: 1000}
    tcp: {enabled: false}
    scheduler: {enabled: true}
`;
  const { config, warnings, originOf } = load(yaml);
  assert.equal(config.collector.interval, 30_000);
  assert.equal(originOf('collector.interval'), `${file}:5:15`);
  assert.equal(config.collector.btf_path, '/b');
  assert.equal(config.collector.maps.sockets_max, 1000);
  assert.equal(config.collector.probes.tcp.enabled, false);
  assert.deepEqual(warnings, [
    'collectors.ebpf.scheduler: this sonde has no such source yet; ignored',
  ]);
  assert.deepEqual(faults('collectors: {ebpf: {maps: {sockets_max: 1}}}'), [
    'F:1:41: collector.maps.sockets_max: 1 is out of range; give 64 to 10000000',
  ]);
  assert.deepEqual(faults('collectors: {ebpf: {interval: 1s}}\ncollector: {interval: 2s}'), [
    'F:1:21: collector.interval: is given twice; keep one of collectors.ebpf.interval and collector.interval',
  ]);
  assert.deepEqual(faults('collectors: {ebpf: {intervall: 1s}}'), [
    'F:1:21: collectors.ebpf.intervall: is no known key; did you mean interval?',
  ]);
});

test('plain text beyond this machine is allowed by name only', () => {
  const env = { EBPF_NET_INTAKE_HOST: '192.168.0.101', EBPF_NET_INTAKE_PORT: '8000' };
  assert.match(
    faults('', { role: 'collector', env })[0],
    /^EBPF_NET_INTAKE_HOST: collector.intake_host: "192.168.0.101" lies beyond .*--allow-plaintext/,
  );
  const flags = { '--allow-plaintext': true };
  assert.deepEqual(faults('', { role: 'collector', env, flags }), []);
  assert.deepEqual(faults('collector: {tls: {enabled: true}}', { role: 'collector', env }), []);
  assert.match(faults('reducer: {listen: ":8000"}')[0], /^F:1:19: reducer.listen: "::" would take/);
  assert.match(faults('reducer: {tls: {cert_path: a}}')[0], /needs reducer.tls.key_path/);
  const tls = 'tls: {cert_path: a, key_path: b}';
  assert.deepEqual(faults(`reducer: {listen: ":8000", ${tls}}`), []);
});

test('mistyped variables warn; those of Kubernetes do not', () => {
  const env = {
    SONDE_LOG_LEVL: 'x',
    SONDE_REDUCER_SERVICE_HOST: 'x',
    SONDE_REDUCER_PORT_8000_TCP_ADDR: 'x',
    SONDE_REDUCER_PORT: 'tcp://x',
  };
  const { warnings } = load('', { env });
  assert.deepEqual(warnings, [
    'SONDE_LOG_LEVL: no such variable, ignored; did you mean SONDE_LOG_LEVEL?',
  ]);
});

test('every key has its own variable and help, and each flag means one key of a role', () => {
  const keys = configKeys(SOURCES);
  assert.equal(new Set(keys.map((row) => row.env)).size, keys.length);
  // --allow-plaintext means both roles' keys.
  const flags = keys.flatMap((row) => (row.flag ? `${row.flag} ${row.key.split('.')[0]}` : []));
  assert.equal(new Set(flags).size, flags.length);
  assert.deepEqual(
    keys.filter((row) => row.help === ''),
    [],
  );
});

test('the agent has the six sub-collectors on, under its own pins and names', () => {
  const sources = ['tcp', 'udp', 'syscalls', 'http'];
  const agent = (yaml: string) => load(yaml, { role: 'agent', sources }).config;
  const { collector, agent: own, log } = agent('');
  const enabled = Object.entries(collector.probes).map(([name, probe]) => [name, probe.enabled]);
  assert.deepEqual(Object.fromEntries(enabled), {
    tcp: true,
    udp: true,
    syscalls: true,
    http: false,
  });
  assert.deepEqual([collector.interval, collector.kernel_prefix], [15_000, 'tfo']);
  assert.equal(collector.pin_path, '/sys/fs/bpf/tfo-agent');
  assert.deepEqual([own.metrics.port, log.console, log.file], [8888, true, false]);
  const switched = agent('collectors: {ebpf: {network: false, collect_syscalls: true, maps: {}}}');
  assert.deepEqual(
    Object.values(switched.collector.probes).map((probe) => probe.enabled),
    [false, false, true, false],
  );
  const section = agent('collectors: {ebpf: {network: {enabled: false}, pin_path: /b/a}}');
  assert.equal(section.collector.probes.udp.enabled, false);
  assert.equal(section.collector.pin_path, '/b/a');
  const filter = 'process_include: [a], process_exclude: [b]';
  const filtered = agent(`collectors: {ebpf: {${filter}}}`);
  assert.deepEqual(filtered.collector.filter.include_names, ['a']);
  assert.deepEqual(faults('collectors: {ebpf: {network: 7}}', { role: 'agent', sources }), [
    'F:1:30: collector.probes.tcp.enabled: 7 is neither true nor false; write true or false',
    'F:1:30: collector.probes.udp.enabled: 7 is neither true nor false; write true or false',
  ]);
});

test('who asks a reducer takes token and TLS with its address, and no role is checked', () => {
  const at = (env: Record<string, string>) => {
    const { config, originOf } = loadConfig({ env });
    return reducerAt(config, originOf);
  };
  const own = { SONDE_REDUCER_TOKEN: 'a', SONDE_REDUCER_TLS_CERT_PATH: '/c' };
  const far = {
    ...{ EBPF_NET_INTAKE_HOST: 'far', EBPF_NET_INTAKE_PORT: '9', SONDE_COLLECTOR_TOKEN: 'b' },
    ...{ SONDE_COLLECTOR_TLS_ENABLED: 'true', SONDE_COLLECTOR_TLS_SERVER_NAME: 'n' },
  };
  const here = { host: '127.0.0.1', port: 8000, origin: 'default' };
  assert.deepEqual(at({}), here);
  assert.deepEqual(at(own), { ...here, token: 'a', tls: { reducer_cert: '/c' } });
  assert.deepEqual(at({ ...own, ...far }), {
    ...{ host: 'far', port: 9, origin: 'EBPF_NET_INTAKE_HOST', token: 'b' },
    tls: { server_name: 'n' },
  });
  assert.deepEqual(at({ ...own, ...far, SONDE_REDUCER_LISTEN: 'near:7' }), {
    ...{
      host: 'near',
      port: 7,
      origin: 'SONDE_REDUCER_LISTEN',
      token: 'a',
      tls: { reducer_cert: '/c' },
    },
  });
});

test('a key of collector.tls turns TLS on, unless enabled says no', () => {
  const speaks = (tls: string) =>
    speaksTls(load(`collector: {tls: {${tls}}}`).config.collector.tls);
  assert.deepEqual(['', 'ca_path: /a', 'server_name: r', 'enabled: true'].map(speaks), [
    false,
    true,
    true,
    true,
  ]);
  assert.equal(speaks('enabled: false, ca_path: /a'), false);
});

test('what the two roles of one machine do not agree on is a fault of both together', () => {
  const [cert, own, client] = [
    { SONDE_REDUCER_TLS_CERT_PATH: '/c', SONDE_REDUCER_TLS_KEY_PATH: '/k' },
    { SONDE_COLLECTOR_TLS_ENABLED: 'true' },
    { SONDE_COLLECTOR_TLS_CERT_PATH: '/d', SONDE_COLLECTOR_TLS_KEY_PATH: '/l' },
  ];
  const keys = (env: Record<string, string>) => {
    const { config, originOf } = loadConfig({ role: 'run', env });
    return disagreements(config, originOf).map(({ where, key }) => `${where} ${key}`);
  };
  assert.deepEqual(keys({}), []);
  assert.deepEqual(keys(cert), ['SONDE_REDUCER_TLS_CERT_PATH reducer.tls.cert_path']);
  assert.deepEqual(keys(own), ['SONDE_COLLECTOR_TLS_ENABLED collector.tls.enabled']);
  assert.deepEqual(keys(client), ['SONDE_COLLECTOR_TLS_CERT_PATH collector.tls.cert_path']);
  assert.deepEqual(keys({ ...cert, ...client }), [], 'a certificate is named to be shown');
  assert.deepEqual(keys({ ...cert, ...own }), []);
  const mutual = { ...cert, ...own, SONDE_REDUCER_TLS_CLIENT_CA_PATH: '/a' };
  assert.deepEqual(keys(mutual), ['SONDE_REDUCER_TLS_CLIENT_CA_PATH reducer.tls.client_ca_path']);
  assert.deepEqual(keys({ ...mutual, ...client }), []);
  const here = { EBPF_NET_INTAKE_HOST: 'localhost', EBPF_NET_INTAKE_PORT: '9' };
  assert.deepEqual(keys({ ...cert, ...here }), keys(cert));
  // another reducer, and none to deliver
  assert.deepEqual(keys({ ...own, EBPF_NET_INTAKE_HOST: 'far' }), []);
  assert.deepEqual(keys({ ...cert, ...here, SONDE_REDUCER_LISTEN: '127.0.0.1:8000' }), []);
  assert.deepEqual(keys({ ...cert, SONDE_COLLECTOR_ENABLED: 'false' }), []);
});
