// Everything that can be configured, once. The file, the variables, the flags, --help and docs/configuration.md all
// follow from this schema; adding a key is adding a line here.

import * as z from 'zod';
import { capture } from './capture.ts';
import {
  bearerToken,
  bool,
  choice,
  count,
  duration,
  host,
  hostPort,
  kernelPrefix,
  key,
  list,
  numbers,
  optionalKey,
  path,
  patterns,
  percent,
  pinPath,
  port,
  ports,
  size,
  text,
  url,
} from './leaf.ts';

const log = z.strictObject({
  console: key(bool, false, {
    help: 'Write the log to standard error',
    flag: '--log-console',
    flag_value: true,
  }),
  file: key(bool, true, {
    help: 'Write the log to log.file_path',
    flag: '--no-log-file',
    flag_value: false,
    flag_help: 'Write no log file',
  }),
  file_path: key(path, '/var/log/ebpf_net.log', {
    help: 'Log file; reopened on HUP. Where it cannot be written, the log goes to standard error',
    env: 'EBPF_NET_LOG_FILE_PATH',
    flag: '--log-file-path',
  }),
  level: key(choice(['trace', 'debug', 'info', 'warn', 'error', 'fatal']), 'info', {
    help: 'Least severity that is written',
    flag: '--log-level',
    live: true,
  }),
  format: key(choice(['auto', 'json', 'line']), 'auto', {
    help: 'JSON lines, or lines for people; auto: lines on a terminal, else JSON',
    flag: '--log-format',
  }),
});

const maps = z.strictObject({
  sockets_max: key(count(64, 10_000_000), 131_072, {
    help: 'TCP sockets whose owner and counters the kernel side holds at once; UDP flows: half as many, connections of HTTP: a quarter',
  }),
  processes_max: key(count(64, 1_000_000), 8192, {
    help: 'Processes whose names are held at once',
  }),
  syscalls_max: key(count(64, 1_000_000), 8192, {
    help: 'Combinations of process, system call and result in one interval; what is beyond is counted without its process',
  }),
  process_totals_max: key(count(64, 1_000_000), 4096, {
    help: 'Processes whose scheduler, memory and file totals one interval holds; what is beyond is counted without its process',
  }),
});

/** Parts of sources that cost more, each by itself. */
const latency = (what: string) =>
  z.strictObject({ latency: key(bool, false, { help: `Measure ${what}` }) }).prefault({});

const memory = z.strictObject({
  allocations: key(bool, false, { help: 'Count the pages that each process allocates' }),
});

const process = z.strictObject({
  arguments: key(bool, false, {
    help: 'Report the arguments of each exec in process_event; they may hold secrets',
  }),
});

const dns = z.strictObject({
  ports: key(ports(4), [53], {
    help: 'Ports at which DNS is spoken, over UDP and TCP; 5353 for multicast DNS',
  }),
  timeout: key(duration('100ms', '10m'), '5s', {
    help: 'A query without an answer by then has timed out: rcode -1',
  }),
  domains_max: key(count(1, 32_768), 1000, {
    help: 'Different names of one interval that are told apart; the others are <other>',
  }),
});

/** A database whose commands are counted at these ports. */
const database = (what: string, usual: number) =>
  z
    .strictObject({
      ports: key(ports(4), [usual], { help: `TCP ports at which ${what} is spoken in clear text` }),
    })
    .prefault({});

const http = z.strictObject({
  raw_path: key(bool, false, {
    help: 'Keep the path of requests as it was in httpflow.path, without its query; default: its route template',
  }),
});

const nat = z.strictObject({
  conntrack: key(bool, true, {
    help: 'Look up where connections of containers go that the host translates, in its connection tracking',
  }),
  netns: key(list(), [], {
    help: "Network namespaces whose connection tracking is listened to, as paths like /run/netns/NAME; default: the host's",
  }),
});

const clientTls = z.strictObject({
  enabled: optionalKey(bool, {
    help: 'Speak TLS to the reducer; default: if another key of this section is set',
    flag: '--tls',
    flag_value: true,
  }),
  ca_path: optionalKey(path, {
    help: 'Certificates that may sign the reducer; default: the system. Read for each connection, as those below',
  }),
  cert_path: optionalKey(path, { help: "The collector's own certificate, for mutual TLS" }),
  key_path: optionalKey(path, { help: 'The key to cert_path' }),
  server_name: optionalKey(host, {
    help: 'Name expected in the certificate; default: intake_host',
  }),
});

const budget = z.strictObject({
  ns: optionalKey(count(1, 1_000_000_000), {
    help: 'Most nanoseconds that one run of the programs of a source may take, as a mean; beyond, it falls back',
    flag: '--budget-ns',
    live: true,
  }),
  cpu: optionalKey(percent, {
    help: 'Most of one processor that the programs of a source may take; beyond, it falls back',
    flag: '--budget-cpu',
    live: true,
  }),
});

const names = (what: string) => `${what}, by the name of their executable; * stands for any text`;

const filter = z.strictObject({
  include_names: key(list(), [], { help: names('Only processes of these'), live: true }),
  exclude_names: key(list(), [], { help: names('Not the processes of these'), live: true }),
  include_pids: key(numbers(1, 2 ** 22), [], {
    help: 'Only these processes, by number',
    live: true,
  }),
  exclude_pids: key(numbers(1, 2 ** 22), [], {
    help: 'Not these processes, by number',
    live: true,
  }),
  include_cgroups: key(list(), [], {
    help: 'Only processes in these cgroups and below, by path; * stands for any text',
    live: true,
  }),
  exclude_cgroups: key(list(), [], {
    help: 'Not the processes in these cgroups and below, by path',
    live: true,
  }),
});

/** One probe; which there are, `loadConfig` is told by its caller, so that the list of probes stands once. */
const probe = z.strictObject({
  enabled: optionalKey(bool, { help: "Load this source; default: the source's own" }),
});

const token = optionalKey(bearerToken, {
  help: 'Bearer token that the collector shows and the reducer asks for',
  secret: true,
});

/** For each role by itself in a file; the flag means both. */
const allow_plaintext = key(bool, false, {
  help: 'Allow traffic without TLS beyond the loopback interface',
  flag: '--allow-plaintext',
  flag_value: true,
});

const bash = z.strictObject({
  redact: key(patterns(), [], {
    help: 'Regular expressions; what they match in a command line is replaced before it leaves the host',
  }),
});

const collector = z.strictObject({
  enabled: key(bool, true, { help: 'Gather from the kernel at all' }),
  intake_host: optionalKey(host, {
    help: 'Reducer to send to: host name, IPv4 or IPv6. Required for kernel-collector',
    env: 'EBPF_NET_INTAKE_HOST',
    flag: '--intake-host',
  }),
  intake_port: optionalKey(port, {
    help: 'TCP port of the reducer, usually 8000. Required for kernel-collector',
    env: 'EBPF_NET_INTAKE_PORT',
    flag: '--intake-port',
  }),
  interval: key(duration('100ms', '1h'), '10s', {
    help: 'Rows of one interval with equal dimensions become one',
    flag: '--interval',
    live: true,
  }),
  ephemeral_port: key(count(1, 65535, 'port'), 10_001, {
    help: 'Client ports from here on are folded into one, so that the number of rows stays bounded',
    live: true,
  }),
  host_dir: key(path, '/hostfs', {
    help: "Where the host's directories are mounted inside a container",
    env: 'EBPF_NET_HOST_DIR',
  }),
  pin_path: key(pinPath, '/sys/fs/bpf/sonde', {
    help: 'Folder of bpffs for pinned maps and programs, which the successor of a killed collector takes over; an orderly end removes them',
  }),
  kernel_prefix: key(kernelPrefix, '', {
    help: 'Before the names of maps and programs in the kernel, as bpftool shows them',
  }),
  btf_path: optionalKey(path, {
    help: "Type information of the kernel; default: the kernel's own",
  }),
  ring_bytes: key(size('64KiB', '1GiB', true), '8MiB', {
    help: 'Size of the ring between kernel and collector',
  }),
  spool_bytes_max: key(size('1MiB', '1000GB'), '256MiB', {
    help: 'Disk space for batches that the reducer has not acknowledged; the oldest go first, counted',
  }),
  maps: maps.prefault({}),
  http: http.prefault({}),
  nat: nat.prefault({}),
  dns: dns.prefault({}),
  redis: database('Redis', 6379),
  postgresql: database('PostgreSQL', 5432),
  mysql: database('MySQL', 3306),
  capture: capture.prefault({}),
  filter: filter.prefault({}),
  budget: budget.prefault({}),
  probes: z.record(z.string(), probe.prefault({})).prefault({}),
  bash: bash.prefault({}),
  syscalls: latency('how long each system call takes: twice the cost of counting them'),
  fileio: latency('how long each read and write takes'),
  scheduler: latency('how long each wait for a processor is, at every switch'),
  memory: memory.prefault({}),
  process: process.prefault({}),
  tls: clientTls.prefault({}),
  token,
  allow_plaintext,
  fail_sources: key(list(), [], {
    help: 'Test aid: sources that are made to fail at loading, to see that the others go on',
    env: 'SONDE_FAIL_SOURCE',
  }),
});

const agent = z.strictObject({
  metrics: key(hostPort, ':8888', {
    help: 'Where `sonde start` shows /metrics to Prometheus',
    flag: '--metrics',
  }),
});

const store = z.strictObject({
  path: optionalKey(path, { help: 'Folder of the embedded store; default: store in data_dir' }),
  url: optionalKey(url, { help: 'ClickHouse server instead of the embedded store' }),
  user: key(text(), 'default', { help: 'User at the ClickHouse server' }),
  password: optionalKey(text(), { help: 'Password at the ClickHouse server', secret: true }),
  database: key(text(), 'default', { help: 'Database for the tables' }),
  retention: key(duration('1h', '36500d'), '7d', { help: 'How long rows are kept as they came' }),
  retention_minute: key(duration('1h', '36500d'), '30d', {
    help: 'How long the one-minute rollups are kept',
  }),
  retention_hour: key(duration('1h', '36500d'), '365d', {
    help: 'How long the one-hour rollups are kept',
  }),
});

const serverTls = z.strictObject({
  cert_path: optionalKey(path, {
    help: "The reducer's certificate; with key_path it turns TLS on. The files are read again on HUP",
  }),
  key_path: optionalKey(path, { help: 'The key to cert_path' }),
  client_ca_path: optionalKey(path, { help: 'Certificates that may sign collectors: mutual TLS' }),
});

const limits = z.strictObject({
  connections_max: key(count(1, 1_000_000), 1024, { help: 'Connections at the intake at once' }),
  batch_bytes_max: key(size('64KiB', '1GiB'), '16MiB', { help: 'Largest batch that is taken' }),
  collectors_max: key(count(1, 1_000_000), 4096, { help: 'Collectors remembered by id' }),
  handshake_timeout: key(duration('100ms', '10m'), '10s', {
    help: 'A connection that has not begun a batch by then is closed',
  }),
});

const reducer = z.strictObject({
  listen: key(hostPort, '127.0.0.1:8000', {
    help: 'Where collectors deliver. Beyond loopback it takes TLS or allow_plaintext',
    flag: '--listen',
  }),
  metrics: key(hostPort, '127.0.0.1:8888', {
    help: 'Where Prometheus finds /metrics',
    flag: '--metrics',
  }),
  store: store.prefault({}),
  tls: serverTls.prefault({}),
  token,
  allow_plaintext,
  limits: limits.prefault({}),
});

export const config_schema = z.strictObject({
  data_dir: key(path, '.', {
    help: 'Spool and embedded store; default: the working directory',
    env: 'EBPF_NET_DATA_DIR',
    flag: '--data-dir',
  }),
  log: log.prefault({}),
  collector: collector.prefault({}),
  reducer: reducer.prefault({}),
  agent: agent.prefault({}),
});

/** The whole configuration in force: durations in milliseconds, sizes in bytes, every default filled in. */
export type Config = z.output<typeof config_schema>;
