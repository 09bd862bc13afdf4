// What the schema cannot know: which keys a role needs, and which keys only make sense together.

import { isIPv4 } from 'node:net';
import type { ConfigIssue } from './error.ts';
import type { HostPort } from './leaf.ts';
import type { Config } from './schema.ts';

/** `agent`: the collector alone, with a page of its own. */
export type Role = 'collector' | 'reducer' | 'run' | 'agent';

export function checkRole(role: Role, config: Config): readonly ConfigIssue[] {
  if (role === 'agent') return [];
  return [
    ...(role === 'collector' ? checkIntake(config) : checkReducer(config)),
    ...(role === 'reducer' ? [] : checkCollectorTls(config)),
  ];
}

/** Where the collector delivers. `sonde run` has a reducer of its own, and sends there unless told otherwise. */
export function intakeOf(config: Config): HostPort {
  const { intake_host, intake_port } = config.collector;
  const { host, port } = reached(config.reducer.listen);
  return { host: intake_host ?? host, port: intake_port ?? port };
}

/**
 * Where the reducer of `sonde run` listens if only the collector was told where to deliver, and that is here: else the two would
 * never meet. Undefined: where it listens was said, or need not be.
 */
export function listenOf(config: Config, originOf: (key: string) => string): HostPort | undefined {
  const { intake_host, intake_port } = config.collector;
  const { host, port } = config.reducer.listen;
  if (originOf('reducer.listen') !== 'default') return undefined;
  if (intake_host !== undefined && !isLoopback(intake_host)) return undefined;
  if (intake_host === undefined && intake_port === undefined) return undefined;
  return { host: intake_host ?? host, port: intake_port ?? port };
}

/** An address of every interface is reached from here over the loopback. */
export function reached({ host, port }: HostPort): HostPort {
  return { host: host === '::' ? '::1' : host === '0.0.0.0' ? '127.0.0.1' : host, port };
}

/** The files that the collector speaks TLS with; undefined: it does not. */
export function intakeTls({ collector: { tls } }: Config) {
  if (!speaksTls(tls)) return undefined;
  return {
    ...(tls.ca_path !== undefined && { ca: tls.ca_path }),
    ...(tls.cert_path !== undefined && { cert: tls.cert_path }),
    ...(tls.key_path !== undefined && { key: tls.key_path }),
    ...(tls.server_name !== undefined && { server_name: tls.server_name }),
  };
}

type TlsSection = Config['collector']['tls'];

/** Who names a certificate means it: its rows and its token do not go as plain text for want of one more key. */
export function speaksTls(tls: TlsSection): boolean {
  return tls.enabled ?? tlsKey(tls) !== 'enabled';
}

/** What turns TLS on. */
function tlsKey(tls: TlsSection): keyof TlsSection {
  if (tls.enabled !== undefined) return 'enabled';
  const keys = ['ca_path', 'cert_path', 'key_path', 'server_name'] as const;
  return keys.find((name) => tls[name] !== undefined) ?? 'enabled';
}

type IntakeTls = NonNullable<ReturnType<typeof intakeTls>>;

/** Names are not resolved here: `localhost` alone is taken at its word. */
export function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.');
  return host === '::1' || host.toLowerCase() === 'localhost';
}

export interface ReducerAt extends HostPort {
  /** The variable, or the place in the file, that names it; `default`. */
  readonly origin: string;
  readonly token?: string;
  /** `reducer_cert`: the certificate that it shows, of who has it. */
  readonly tls?: IntakeTls & { readonly reducer_cert?: string };
}

/** The reducer that commands ask: this machine's own, where one is configured, else the one that the collector delivers to. */
export function reducerAt(config: Config, originOf: (key: string) => string): ReducerAt {
  const { intake_host, intake_port, token: shown } = config.collector;
  const { listen } = config.reducer;
  const listens = originOf('reducer.listen');
  const delivers = [originOf('collector.intake_host'), originOf('collector.intake_port')];
  const origin = delivers.find((one) => one !== 'default');
  if (listens === 'default' && origin !== undefined) {
    const at = { host: intake_host ?? listen.host, port: intake_port ?? listen.port, origin };
    const shows = intakeTls(config);
    return {
      ...at,
      ...(shown !== undefined && { token: shown }),
      ...(shows !== undefined && { tls: shows }),
    };
  }
  return { ...ownReducer(config), origin: listens };
}

/** The reducer of this machine: its certificate is known here. It may ask for one, which is the collector's. */
export function ownReducer(config: Config): Omit<ReducerAt, 'origin'> {
  const { listen, token, tls } = config.reducer;
  const { cert, key } = intakeTls(config) ?? {};
  const shown = cert !== undefined && key !== undefined && { cert, key };
  return {
    ...reached(listen),
    ...(token !== undefined && { token }),
    ...(tls.cert_path !== undefined && { tls: { reducer_cert: tls.cert_path, ...shown } }),
  };
}

/**
 * What the two roles of `sonde run` do not agree on, where one delivers to the other. Each role alone is checked by `checkRole`.
 */
export function disagreements(
  config: Config,
  originOf: (key: string) => string,
): readonly ConfigIssue[] {
  const { collector, reducer } = config;
  if (!collector.enabled || !deliversHere(config, originOf)) return [];
  const issue = (key: string, problem: string, cure: string): ConfigIssue[] => {
    const origin = originOf(key);
    return [{ where: origin === 'default' ? '' : origin, key, problem, cure }];
  };
  const { cert_path, client_ca_path } = reducer.tls;
  const speaks = speaksTls(collector.tls);
  if (cert_path !== undefined && !speaks) {
    const problem = 'makes the reducer speak TLS, its collector speaks plain text';
    const cure =
      'set collector.tls.enabled too (--tls), and in collector.tls.ca_path who signed it';
    return issue('reducer.tls.cert_path', problem, cure);
  }
  if (cert_path === undefined && speaks) {
    const problem = 'makes the collector speak TLS, its reducer speaks plain text';
    const key = `collector.tls.${tlsKey(collector.tls)}`;
    return issue(key, problem, 'give reducer.tls.cert_path and key_path too');
  }
  if (client_ca_path !== undefined && collector.tls.cert_path === undefined) {
    const problem = 'makes the reducer ask for a certificate, its collector has none';
    const cure = 'give collector.tls.cert_path and key_path too';
    return issue('reducer.tls.client_ca_path', problem, cure);
  }
  return [];
}

function deliversHere(config: Config, originOf: (key: string) => string): boolean {
  if (listenOf(config, originOf) !== undefined) return true;
  const to = intakeOf(config);
  const at = reached(config.reducer.listen);
  if (to.port !== at.port) return false;
  return to.host === at.host || (isLoopback(to.host) && isLoopback(at.host));
}

function checkIntake(config: Config): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const missing = (name: 'HOST' | 'PORT', example: string): void => {
    const key = `collector.intake_${name.toLowerCase()}`;
    const variable = `EBPF_NET_INTAKE_${name}`;
    const cure = `set it to the reducer's, for example ${variable}=${example}`;
    issues.push({ where: variable, key, problem: 'is not set', cure });
  };
  if (config.collector.intake_host === undefined) missing('HOST', '192.168.0.101');
  if (config.collector.intake_port === undefined) missing('PORT', '8000');
  return issues;
}

const PLAINTEXT_CURE =
  'turn TLS on, or allow plain text by name: --allow-plaintext, allow_plaintext: true';

function checkCollectorTls(config: Config): ConfigIssue[] {
  const { intake_host, tls } = config.collector;
  const issues: ConfigIssue[] = pair('collector.tls', tls.cert_path, tls.key_path);
  if (
    intake_host !== undefined &&
    !speaksTls(tls) &&
    !config.collector.allow_plaintext &&
    !isLoopback(intake_host)
  ) {
    const problem = 'lies beyond this machine and would get the data as plain text';
    issues.push({
      where: '',
      key: 'collector.intake_host',
      value: JSON.stringify(intake_host),
      problem,
      cure: PLAINTEXT_CURE,
    });
  }
  return issues;
}

function checkReducer(config: Config): ConfigIssue[] {
  const { listen, tls, store } = config.reducer;
  const issues: ConfigIssue[] = pair('reducer.tls', tls.cert_path, tls.key_path);
  if (tls.cert_path === undefined && !config.reducer.allow_plaintext && !isLoopback(listen.host)) {
    const problem = 'would take data as plain text from beyond this machine';
    const value = JSON.stringify(listen.host);
    issues.push({ where: '', key: 'reducer.listen', value, problem, cure: PLAINTEXT_CURE });
  }
  if (tls.client_ca_path !== undefined && tls.cert_path === undefined) {
    const cure = 'give reducer.tls.cert_path and key_path too';
    issues.push({
      where: '',
      key: 'reducer.tls.client_ca_path',
      problem: 'has no TLS to serve',
      cure,
    });
  }
  if (store.path !== undefined && store.url !== undefined) {
    const problem = 'is given beside reducer.store.path';
    issues.push({ where: '', key: 'reducer.store.url', problem, cure: 'keep one of them' });
  }
  return issues;
}

function pair(section: string, cert: string | undefined, key: string | undefined): ConfigIssue[] {
  if ((cert === undefined) === (key === undefined)) return [];
  const [given, other] = cert === undefined ? ['key_path', 'cert_path'] : ['cert_path', 'key_path'];
  const problem = `needs ${section}.${other}`;
  return [{ where: '', key: `${section}.${given}`, problem, cure: `give ${other} too` }];
}
