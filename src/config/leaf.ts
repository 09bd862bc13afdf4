// The kinds of value that configuration is made of. Each parses what a file, a variable or a flag may hold (text from
// the last two) and says in words what is wrong and what to write. `key()` ties a kind to its help, names and default.

import { isIP } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import * as z from 'zod';

export type Milliseconds = number;
export type Bytes = number;

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** What is known of a key beside its type; documentation, --help and reload follow from it. */
export interface KeyMeta {
  readonly kind: string;
  readonly help: string;
  /** Can change while sonde runs (HUP); otherwise a restart is needed. */
  readonly live?: boolean;
  /** Variables that a document promises; the derived SONDE_… name serves where there is none. */
  readonly env?: string;
  readonly flag?: string;
  /** For a flag without argument: the value that it sets. */
  readonly flag_value?: boolean;
  /** What the flag does, where that is not what the key says. */
  readonly flag_help?: string;
  /** Never shown: not in logs, not in errors. */
  readonly secret?: boolean;
}

export const key_registry = z.registry<KeyMeta>();

class Fault {
  readonly problem: string;
  readonly cure: string;
  constructor(problem: string, cure: string) {
    this.problem = problem;
    this.cure = cure;
  }
}

export interface Kind<T> {
  readonly name: string;
  readonly parse: (value: unknown) => T | Fault;
}

function schemaOf<T>(kind: Kind<T>) {
  return z.unknown().transform((value, context): T => {
    const parsed = kind.parse(value);
    if (!(parsed instanceof Fault)) return parsed;
    const { problem, cure } = parsed;
    context.issues.push({ code: 'custom', message: problem, params: { cure }, input: value });
    return z.NEVER;
  });
}

/** A key with a default, written as an operator would write it. */
export function key<T>(kind: Kind<T>, fallback: unknown, meta: Omit<KeyMeta, 'kind'>) {
  const schema = schemaOf(kind).prefault(fallback);
  return schema.register(key_registry, { kind: kind.name, ...meta });
}

/** A key that may be left out. */
export function optionalKey<T>(kind: Kind<T>, meta: Omit<KeyMeta, 'kind'>) {
  return schemaOf(kind)
    .optional()
    .register(key_registry, { kind: kind.name, ...meta });
}

const DURATION_MS: Record<string, number> = { ms: 1, s: 1e3, m: 6e4, h: 3.6e6, d: 8.64e7 };
const SIZE_BYTES: Record<string, number> = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
};

/** A number with a unit; undefined when it is not that. */
function measure(value: unknown, units: Record<string, number>): number | undefined {
  if (typeof value !== 'string') return undefined;
  const match = /^(\d+(?:\.\d+)?) ?([A-Za-z]+)$/.exec(value.trim());
  const unit = match && Object.hasOwn(units, match[2]) ? units[match[2]] : undefined;
  return match && unit !== undefined ? Math.round(Number(match[1]) * unit) : undefined;
}

/** `min` and `max` as written: "100ms". */
export function duration(min: string, max: string): Kind<Milliseconds> {
  const low = measure(min, DURATION_MS) ?? 0;
  const high = measure(max, DURATION_MS) ?? 0;
  return {
    name: 'duration',
    parse(value) {
      const found = measure(value, DURATION_MS);
      if (found === undefined) {
        return new Fault('is no duration', `write a number and a unit, from ${min} to ${max}: 10s`);
      }
      if (found >= low && found <= high) return found;
      return new Fault('is out of range', `give ${min} to ${max}`);
    },
  };
}

/** `min` and `max` as written: "64KiB". `power_of_two`: the kernel takes a ring in no other size. */
export function size(min: string, max: string, power_of_two = false): Kind<Bytes> {
  const low = measure(min, SIZE_BYTES) ?? 0;
  const high = measure(max, SIZE_BYTES) ?? 0;
  return {
    name: 'size',
    parse(value) {
      const found = measure(value, SIZE_BYTES);
      if (found === undefined) {
        return new Fault('is no size', `write a number and a unit, from ${min} to ${max}: 64MiB`);
      }
      if (found < low || found > high) return new Fault('is out of range', `give ${min} to ${max}`);
      if (power_of_two && !Number.isInteger(Math.log2(found))) {
        return new Fault('is no power of two', 'give 1MiB, 2MiB, 4MiB, 8MiB …');
      }
      return found;
    },
  };
}

/** A share of one, written in percent: `0.5%`. */
export const percent: Kind<number> = {
  name: 'percent',
  parse(value) {
    const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?) ?%$/.exec(value.trim()) : null;
    const found = match === null ? Number.NaN : Number(match[1]) / 100;
    if (found > 0 && found <= 1) return found;
    return new Fault('is no share', 'give more than 0% and at most 100%, such as 0.5%');
  },
};

/** A whole number, in a file or as text. */
function whole(value: unknown): number | undefined {
  if (typeof value === 'string' && /^\d{1,15}$/.test(value)) return Number(value);
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : undefined;
}

export function count(min: number, max: number, name = 'number'): Kind<number> {
  return {
    name,
    parse(value) {
      const found = whole(value);
      if (found === undefined) {
        return new Fault(`is no ${name}`, `give a whole number from ${min} to ${max}`);
      }
      if (found >= min && found <= max) return found;
      return new Fault('is out of range', `give ${min} to ${max}`);
    },
  };
}

export const port = count(1, 65535, 'port');

export const bool: Kind<boolean> = {
  name: 'true or false',
  parse(value) {
    if (typeof value === 'boolean') return value;
    if (value === 'true' || value === '1') return true;
    if (value === 'false' || value === '0') return false;
    return new Fault('is neither true nor false', 'write true or false');
  },
};

const TEXT_LENGTH_MAX = 4096;

export function text(name = 'text'): Kind<string> {
  return {
    name,
    parse(value) {
      if (typeof value !== 'string' || value === '') {
        return new Fault(
          `is no ${name}`,
          `give a ${name}, in quotes where YAML would read otherwise`,
        );
      }
      if (value.length <= TEXT_LENGTH_MAX && !value.includes('\0')) return value;
      return new Fault(
        'is too long or holds a zero byte',
        `give at most ${TEXT_LENGTH_MAX} characters`,
      );
    },
  };
}

export const path = text('path');

/** A bearer token goes into a header of gRPC, which carries no others. */
export function isToken(value: string): boolean {
  return /^[ -~]*$/.test(value);
}

export const bearerToken: Kind<string> = {
  name: 'text',
  parse(value) {
    const found = text().parse(value);
    if (found instanceof Fault || isToken(found)) return found;
    return new Fault('cannot be sent in a header', 'give printable ASCII characters alone');
  },
};

/** A folder for pinned objects: one of sonde's own, since others pin at the root of bpffs. */
export const pinPath: Kind<string> = {
  name: 'path',
  parse(value) {
    const found = path.parse(value);
    if (found instanceof Fault) return found;
    const segments = found.split('/').filter((segment) => segment !== '');
    const plain = found.startsWith('/') && !segments.includes('..') && !segments.includes('.');
    if (plain && segments.length > 0 && segments.join('/') !== 'sys/fs/bpf') return found;
    return new Fault('is no folder of its own', 'give a folder below bpffs: /sys/fs/bpf/sonde');
  },
};

/** The kernel keeps 15 characters of a name, and bpffs takes no dots. */
export const kernelPrefix: Kind<string> = {
  name: 'name',
  parse(value) {
    if (typeof value === 'string' && /^[a-z][a-z0-9_]{0,7}$|^$/.test(value)) return value;
    return new Fault('is no prefix', 'give up to 8 small letters and digits, such as tfo, or none');
  },
};

export function choice<const T extends string>(values: readonly T[]): Kind<T> {
  return {
    name: values.join(', '),
    parse(value) {
      const found = values.find((candidate) => candidate === value);
      return found ?? new Fault('is not one of the choices', `choose from ${values.join(', ')}`);
    },
  };
}

const LIST_LENGTH_MAX = 1024;

/** Regular expressions; in a variable or flag separated by commas, so that one with a comma goes into a file. */
export function patterns(): Kind<readonly string[]> {
  const texts = list('list of regular expressions');
  return {
    name: texts.name,
    parse(value) {
      const parts = texts.parse(value);
      if (parts instanceof Fault) return parts;
      const wrong = parts.find((part) => !isPattern(part));
      if (wrong === undefined) return parts;
      const is_flag = /\(\?[a-z]+\)/.test(wrong);
      return new Fault(
        `holds '${wrong}', which is no regular expression`,
        is_flag
          ? 'flags are given with what they are for: (?i:secret), not (?i)secret'
          : 'mend it, or take it out',
      );
    },
  };
}

function isPattern(text: string): boolean {
  try {
    new RegExp(text, 'gu');
    return true;
  } catch {
    return false;
  }
}

/** A list of texts; in a variable or flag separated by commas. */
export function list(name = 'list'): Kind<readonly string[]> {
  return {
    name,
    parse(value) {
      const parts = typeof value === 'string' ? splitList(value) : value;
      const item = text();
      if (!Array.isArray(parts) || parts.some((part) => item.parse(part) instanceof Fault)) {
        return new Fault(
          `is no ${name}`,
          'give a list of texts: [a, b], or a,b in a variable or flag',
        );
      }
      if (parts.length <= LIST_LENGTH_MAX) return parts.map(String);
      return new Fault('is too long', `give at most ${LIST_LENGTH_MAX} entries`);
    },
  };
}

/** At most `most` ports; in a variable or flag separated by commas. */
export function ports(most: number): Kind<readonly number[]> {
  return {
    name: 'list of ports',
    parse(value) {
      const parts = typeof value === 'string' ? splitList(value) : [value].flat();
      const found = parts.map((part) => port.parse(part));
      const numbers = found.filter((one): one is number => !(one instanceof Fault));
      if (numbers.length === found.length && numbers.length <= most) return numbers;
      return new Fault('is no list of ports', `give at most ${most} ports from 1 to 65535: [53]`);
    },
  };
}

/** A list of whole numbers; in a variable or flag separated by commas. */
export function numbers(min: number, max: number): Kind<readonly number[]> {
  const item = count(min, max);
  return {
    name: 'list of numbers',
    parse(value) {
      const parts = typeof value === 'string' ? splitList(value) : value;
      if (!Array.isArray(parts)) {
        return new Fault('is no list of numbers', 'give [1, 2], or 1,2 in a variable or flag');
      }
      if (parts.length > LIST_LENGTH_MAX) {
        return new Fault('is too long', `give at most ${LIST_LENGTH_MAX} entries`);
      }
      const found = parts.map((part) => item.parse(part));
      const fault = found.find((one) => one instanceof Fault);
      return fault ?? found.filter((one) => typeof one === 'number');
    },
  };
}

function splitList(value: string): string[] {
  return value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

const HOST_LENGTH_MAX = 253;
const HOST_LABEL = /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

function isHostName(value: string): boolean {
  const labels = value.replace(/\.$/, '').split('.');
  return value.length <= HOST_LENGTH_MAX && labels.every((label) => HOST_LABEL.test(label));
}

/** The host without brackets, or undefined. All digits and dots is a mistyped address, not a name. */
export function parseHost(value: string): string | undefined {
  const bare = /^\[(.*)\]$/.exec(value);
  if (bare) return isIP(bare[1]) === 6 ? bare[1] : undefined;
  if (isIP(value) !== 0) return value;
  return isHostName(value) && !/^[\d.]+$/.test(value) ? value : undefined;
}

export const host: Kind<string> = {
  name: 'host',
  parse(value) {
    const found = typeof value === 'string' ? parseHost(value) : undefined;
    if (found !== undefined) return found;
    if (typeof value === 'string' && parseHostPort(value)) {
      return new Fault('holds a port too', 'give the host alone; the port has its own setting');
    }
    return new Fault(
      'is no host',
      'give a host name, an IPv4 or an IPv6 address: reducer.example, ::1',
    );
  },
};

/** `host:port`, `[::1]:port`, or `:port` for every address of this machine. */
export function parseHostPort(value: string): HostPort | undefined {
  const match = /^(\[[^\]]*\]|[^:[\]]*):(\d{1,5})$/.exec(value);
  const found = match ? (match[1] === '' ? '::' : parseHost(match[1])) : undefined;
  const number = match ? Number(match[2]) : -1;
  return found !== undefined && number <= 65535 ? { host: found, port: number } : undefined;
}

export const hostPort: Kind<HostPort> = {
  name: 'host:port',
  parse(value) {
    const found = typeof value === 'string' ? parseHostPort(value) : undefined;
    return found ?? new Fault('is no host:port', 'write 127.0.0.1:8000, [::1]:8000 or :8000');
  },
};

/** For URLs and messages: IPv6 in brackets. */
export function formatHostPort({ host: name, port: number }: HostPort): string {
  return isIP(name) === 6 ? `[${name}]:${number}` : `${name}:${number}`;
}

export const url: Kind<string> = {
  name: 'url',
  parse(value) {
    const found = typeof value === 'string' && URL.canParse(value) ? new URL(value) : undefined;
    if (!found || !['http:', 'https:'].includes(found.protocol)) {
      return new Fault('is no URL', 'write http://host:8123 or https://host:8443');
    }
    if (found.username === '' && found.password === '') return found.href;
    return new Fault('holds a password', 'put user and password into their own keys');
  },
};

const PATTERNS_MAX = 64;
const PATTERN_LENGTH_MAX = 1024;

/** Regular expressions for V8's linear engine, whose time does not depend on what they are run over. */
export const linearPatterns: Kind<readonly string[]> = {
  name: 'list of regular expressions',
  parse(value) {
    const found = list('list of regular expressions').parse(value);
    if (found instanceof Fault) return found;
    if (found.length > PATTERNS_MAX) {
      return new Fault('is too long', `give at most ${PATTERNS_MAX} patterns`);
    }
    const bad = found.find((source) => !isLinear(source));
    if (bad === undefined) return found;
    return new Fault(
      `holds a pattern that cannot be used: ${bad.slice(0, 80)}`,
      /\(\?[a-z]+[:)]/.test(bad)
        ? 'flags are not known here: write letters as [Ss]'
        : 'give regular expressions without look-around and back-references',
    );
  },
};

function isLinear(source: string): boolean {
  if (source.length > PATTERN_LENGTH_MAX) return false;
  setFlagsFromString('--enable-experimental-regexp-engine'); // without it V8 has no flag `l`
  try {
    return new RegExp(source, 'gl') instanceof RegExp;
  } catch {
    return false; // no regular expression, or not for this engine
  }
}
