// Conversations played between two sockets, and what rows both ends must leave.

import type { TestContext } from 'node:test';
import { type FlowRow, type Live, settles } from '../../../test/live.ts';
import { type PlayOptions, play, type Step } from '../testing.ts';

/** Method, path, status, count. */
export type Row = readonly [string, string, number, number];

export interface Case {
  readonly name: string;
  readonly steps: readonly Step[];
  readonly rows: readonly Row[];
  readonly options?: PlayOptions;
  /** Bytes that no message has: after an upgrade. */
  readonly tunnel?: { readonly client: number; readonly server: number };
}

export function rowsOf(live: Live, port: number, direction: string): readonly FlowRow[] {
  const at = direction === 'incoming' ? { src_port: port } : { dst_port: port };
  return live.sink.rows({ direction, ...at }, 'httpflow');
}

/** Both ends' rows: what was asked, how it ended, and all bytes of the conversation. */
export function seen(live: Live, port: number): unknown {
  return ['incoming', 'outgoing'].map((direction) => {
    const rows = rowsOf(live, port, direction);
    const sum = (name: string): number => rows.reduce((all, row) => all + Number(row[name]), 0);
    const lines = rows.map((row) => [row.method, row.path, row.status_code, row.count]);
    return { rows: lines.sort(), read: sum('bytes_read'), written: sum('bytes_written') };
  });
}

/** What `seen` is to be, of as many bytes as each end has said. */
export function both(rows: readonly Row[], client: number, server: number): unknown {
  return [
    { rows, read: client, written: server },
    { rows, read: server, written: client },
  ];
}

/** Each is a test: both ends' rows must be what was said, byte for byte. */
export async function converse(t: TestContext, live: Live, cases: readonly Case[]): Promise<void> {
  for (const { name, steps, rows, options, tunnel } of cases) {
    await t.test(name, async () => {
      const { port, said } = await play(steps, options);
      const nothing = rows.length === 0;
      const client = nothing ? 0 : said.client - (tunnel?.client ?? 0);
      const server = nothing ? 0 : said.server - (tunnel?.server ?? 0);
      await settles(
        () => live.collector.flush(),
        () => seen(live, port),
        both(rows, client, server),
      );
    });
  }
}
