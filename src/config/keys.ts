// The schema as a list of keys: what --help, the documentation, the variables and the reload rules are made from.

import * as z from 'zod';
import { type KeyMeta, key_registry } from './leaf.ts';
import { config_schema } from './schema.ts';

export interface ConfigKey extends KeyMeta {
  /** Dotted: `collector.maps.sockets_max`. */
  readonly key: string;
  /** The variable that sets it. */
  readonly env: string;
  /** As an operator would write it; undefined where there is none. */
  readonly default: unknown;
}

/** Stands for the name of a source in keys of `collector.probes`. */
export const SOURCE_PLACEHOLDER = '<source>';

function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  if (schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional) {
    return unwrap(schema.def.innerType);
  }
  return schema;
}

function defaultOf(schema: z.core.$ZodType): unknown {
  return schema instanceof z.ZodPrefault ? schema.def.defaultValue : undefined;
}

function* walk(schema: z.core.$ZodType, at: readonly string[]): Generator<ConfigKey> {
  const meta = key_registry.get(schema);
  if (meta) {
    const env = meta.env ?? `SONDE_${at.join('_').toUpperCase()}`;
    yield { ...meta, key: at.join('.'), env, default: defaultOf(schema) };
    return;
  }
  const inner = unwrap(schema);
  if (inner instanceof z.ZodRecord) yield* walk(inner.valueType, [...at, SOURCE_PLACEHOLDER]);
  if (!(inner instanceof z.ZodObject)) return;
  for (const [name, member] of Object.entries(inner.shape)) yield* walk(member, [...at, name]);
}

/** Every key. With `sources`, the keys of each source stand in the place of the one for `<source>`. */
export function configKeys(sources?: readonly string[]): readonly ConfigKey[] {
  return [...walk(config_schema, [])].flatMap((row) => {
    if (!sources || !row.key.includes(SOURCE_PLACEHOLDER)) return [row];
    return sources.map((source) => ({
      ...row,
      key: row.key.replace(SOURCE_PLACEHOLDER, source),
      env: row.env.replace(SOURCE_PLACEHOLDER.toUpperCase(), source.toUpperCase()),
    }));
  });
}

/** The names that may stand below a dotted key; empty for a leaf. */
export function namesBelow(at: readonly string[]): readonly string[] {
  let schema: z.core.$ZodType = config_schema;
  for (const name of at) {
    const inner = unwrap(schema);
    if (inner instanceof z.ZodRecord) schema = inner.valueType;
    else if (inner instanceof z.ZodObject && Object.hasOwn(inner.shape, name)) {
      schema = inner.shape[name];
    } else return [];
  }
  const inner = unwrap(schema);
  return inner instanceof z.ZodObject ? Object.keys(inner.shape) : [];
}
