// The table of connections that `run` and `top` show.

import { formatTable, type TextColumn } from '../table/text.ts';
import type { Questions } from './asking.ts';

export type Sort = 'read' | 'written' | 'new' | 'closed' | 'rtt' | 'process';

export interface FlowsView {
  readonly from: Date;
  readonly rows: number;
  readonly sort: Sort;
  /** Columns of the terminal; absent: as wide as it takes. */
  readonly width?: number;
}

const ORDER: Readonly<Record<Sort, string>> = {
  read: 'read + written DESC',
  written: 'written DESC',
  new: 'established DESC',
  closed: 'closed DESC',
  rtt: 'rtt DESC',
  process: 'process, pid',
};

/** The column that shows by what the rows are sorted. */
const SORTED: Readonly<Record<Sort, string>> = {
  read: 'read',
  written: 'written',
  new: 'opened',
  closed: 'closed',
  rtt: 'rtt',
  process: 'process',
};

/** `127.0.0.1:65535`; most of a longer one that tells rows apart. */
const ADDRESS = { width_min: 15, cut: 'middle' } as const;

/** A narrow terminal has those with the highest ranks. */
const COLUMNS: readonly TextColumn[] = [
  { name: 'process' },
  { name: 'pid', rank: 7 },
  { name: 'direction', rank: 2 },
  { name: 'proto', rank: 1 },
  { name: 'local', ...ADDRESS },
  { name: 'peer', ...ADDRESS },
  { name: 'opened', rank: 5 },
  { name: 'closed', rank: 4 },
  { name: 'failed', rank: 3 },
  { name: 'read', unit: 'By', rank: 9 },
  { name: 'written', unit: 'By', rank: 8 },
  { name: 'rtt', unit: 'us', rank: 6 },
];

function columnsFor(sort: Sort): readonly TextColumn[] {
  return COLUMNS.map((column) => {
    const { rank: _, ...kept } = column;
    return column.name === SORTED[sort] ? kept : column;
  });
}

interface FlowRow {
  readonly process: string;
  readonly pid: number;
  readonly direction: string;
  readonly transport: string;
  readonly local: string;
  readonly peer: string;
  readonly established: number;
  readonly closed: number;
  readonly failed: number;
  readonly read: number;
  readonly written: number;
  readonly rtt: number | null;
}

function sql({ from, rows, sort }: FlowsView): string {
  const since = (from.getTime() / 1000).toFixed(3);
  const end = (ip: string, port: string) =>
    `concat(if(position(${ip}, ':') > 0, concat('[', ${ip}, ']'), ${ip}), ':', if(${port} = 0, '*', toString(${port})))`;
  return `SELECT process_name AS process, pid, direction, transport,
  ${end('src_ip', 'src_port')} AS local, ${end('dst_ip', 'dst_port')} AS peer,
  sum(tcp_established) AS established, sum(tcp_closed) AS closed, sum(connect_failures) AS failed,
  sum(bytes_read) AS read, sum(bytes_written) AS written,
  if(sum(rtt_samples) = 0, NULL, sum(rtt * rtt_samples) / sum(rtt_samples)) AS rtt
FROM netflow WHERE time >= toDateTime64(${since}, 3)
GROUP BY process, pid, direction, transport, local, peer
ORDER BY ${ORDER[sort]}, local, peer LIMIT ${rows}`;
}

/** The largest flows since `from`, as text; a sentence where there are none yet. */
export async function connectionsTable(questions: Questions, view: FlowsView): Promise<string> {
  const rows = await questions.rows<FlowRow>(sql(view));
  if (rows.length === 0) return 'no connections yet';
  const cells = rows.map((row) => [
    row.process === '' ? '(unknown)' : row.process,
    row.pid,
    row.direction,
    row.transport,
    row.local,
    row.peer,
    row.established,
    row.closed,
    row.failed,
    row.read,
    row.written,
    row.rtt,
  ]);
  const { sort, width } = view;
  return formatTable(columnsFor(sort), cells, width === undefined ? {} : { width });
}
