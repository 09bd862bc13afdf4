// Definitions that come from outside: in the schema of a batch, from a peer or from our own disk. Until checked they are
// unknown data.

import * as z from 'zod';
import { defineTable, definitionProblem, type TableDefinition } from './definition.ts';

const TEXT_LENGTH_MAX = 256 * 1024;
const KNOWN_MAX = 256;

const dimension = z.strictObject({
  name: z.string(),
  type: z.enum(['string', 'u8', 'u16', 'u32', 'i32', 'u64']),
  help: z.string(),
  values: z.array(z.string()).exactOptional(),
});

const measure = z.strictObject({
  name: z.string(),
  type: z.enum(['u64', 'f64']),
  unit: z.enum(['1', 'By', 'ns', 'us', 'ms', 's']),
  fold: z.enum(['sum', 'max', 'min', 'last', 'mean', 'histogram']),
  help: z.string(),
  weight: z.string().exactOptional(),
  scale: z.number().exactOptional(),
});

const definition = z.strictObject({
  name: z.string(),
  help: z.string(),
  kind: z.enum(['fold', 'event']),
  dimensions: z.array(dimension),
  measures: z.array(measure),
  rows_max: z.number(),
  enriched: z.array(dimension).exactOptional(),
});

const known = new Map<string, TableDefinition>();

/**
 * The definition that a JSON text holds, undefined if it holds none. The same text gives the same object, so that
 * what is kept per definition (schemas) is found again.
 */
export function parseDefinition(text: string): TableDefinition | undefined {
  const found = known.get(text);
  if (found !== undefined) return found;
  if (text.length > TEXT_LENGTH_MAX) return undefined;
  const parsed = definition.safeParse(parseJson(text));
  if (!parsed.success || definitionProblem(parsed.data) !== undefined) return undefined;
  if (known.size >= KNOWN_MAX) known.clear();
  const table = defineTable(parsed.data);
  known.set(text, table);
  return table;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // A stranger's text that is no JSON is no definition either: the caller counts it.
    return undefined;
  }
}
