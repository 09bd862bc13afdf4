// The metrics of the document's agent (`sonde start`): names, labels and units are its contract, and what fills them is
// said here as data. A table that this sonde does not have leaves its metrics without samples.

export type TfoUnit = '1' | 'By' | 'ns';

/** A label is a column of the table; with `values`, other words for what stands there. */
export type TfoLabel =
  | string
  | { readonly column: string; readonly values: Readonly<Record<string, string>> };

/** Rows of a table that count towards a metric. */
export interface TfoRows {
  readonly table: string;
  readonly labels: Readonly<Record<string, TfoLabel>>;
  /** Only rows whose columns have these values. */
  readonly where?: Readonly<Record<string, string>>;
  /** Measures whose values are added; of a histogram its sum, or with `observations` how many there were. */
  readonly add: readonly string[];
  /** Measures whose values are taken off: what began before sonde did. */
  readonly minus?: readonly string[];
  readonly observations?: boolean;
}

export interface TfoMetric {
  readonly name: string;
  /** The sub-collector, by the document's name. */
  readonly collector: string;
  /** A gauge is the mean of the last interval. */
  readonly type: 'counter' | 'gauge';
  readonly unit: TfoUnit;
  readonly help: string;
  readonly rows: readonly TfoRows[];
}

const PROCESS = { pid: 'pid', comm: 'process_name' } as const;
const SYSCALL = { ...PROCESS, syscall: 'syscall' } as const;
const TCP = { table: 'netflow', labels: PROCESS, where: { transport: 'tcp' } } as const;
const UDP = { table: 'netflow', labels: PROCESS, where: { transport: 'udp' } } as const;
const SCHED = { table: 'sched', labels: PROCESS } as const;
const MEMORY = { table: 'memory', labels: PROCESS } as const;
const FILES = { table: 'file_io', labels: { ...PROCESS, operation: 'operation' } } as const;

/** The document's spelling, which is the kernel's, of the names in RFC 9293. */
const STATES: Readonly<Record<string, string>> = {
  'SYN-SENT': 'SYN_SENT',
  'SYN-RECEIVED': 'SYN_RECV',
  'FIN-WAIT-1': 'FIN_WAIT1',
  'FIN-WAIT-2': 'FIN_WAIT2',
  'TIME-WAIT': 'TIME_WAIT',
  CLOSED: 'CLOSE',
  'CLOSE-WAIT': 'CLOSE_WAIT',
  'LAST-ACK': 'LAST_ACK',
  'NEW-SYN-RECEIVED': 'NEW_SYN_RECV',
};

type Row = readonly [
  name: string,
  type: TfoMetric['type'],
  unit: TfoUnit,
  help: string,
  rows: TfoRows,
];

/** Sub-collector → its metrics, without `tfo_ebpf_`. */
const METRICS: Readonly<Record<string, readonly Row[]>> = {
  syscalls: [
    ['syscall_count', 'counter', '1', 'System calls', of('syscall', SYSCALL, 'calls')],
    [
      'syscall_latency_ns',
      'counter',
      'ns',
      'Time spent in system calls',
      of('syscall', SYSCALL, 'latency'),
    ],
    [
      'syscall_errors',
      'counter',
      '1',
      'System calls that failed',
      of('syscall', SYSCALL, 'errors'),
    ],
  ],
  network: [
    [
      'tcp_connections',
      'counter',
      '1',
      'TCP connections established, by either end',
      { ...TCP, add: ['tcp_established'], minus: ['preexisting'] },
    ],
    [
      'tcp_bytes_sent',
      'counter',
      'By',
      'TCP bytes sent, repeats not counted',
      { ...TCP, add: ['bytes_written'], minus: ['bytes_written_before_start'] },
    ],
    [
      'tcp_bytes_recv',
      'counter',
      'By',
      'TCP bytes received',
      { ...TCP, add: ['bytes_read'], minus: ['bytes_read_before_start'] },
    ],
    [
      'tcp_rtt_ns',
      'gauge',
      'ns',
      'Smoothed TCP round trip time, mean of the last interval',
      { ...TCP, add: ['rtt'] },
    ],
    [
      'tcp_retransmits',
      'counter',
      '1',
      'TCP segments sent again',
      { ...TCP, add: ['retransmits'] },
    ],
    [
      'udp_packets_sent',
      'counter',
      '1',
      'UDP datagrams sent',
      { ...UDP, add: ['packets_written'] },
    ],
    [
      'udp_packets_recv',
      'counter',
      '1',
      'UDP datagrams received',
      { ...UDP, add: ['packets_read'] },
    ],
  ],
  fileio: [
    ['fileio_operations', 'counter', '1', 'Operations on files', { ...FILES, add: ['operations'] }],
    ['fileio_bytes', 'counter', 'By', 'Bytes read and written', { ...FILES, add: ['bytes'] }],
    [
      'fileio_latency_ns',
      'counter',
      'ns',
      'Time spent in operations on files',
      { ...FILES, add: ['latency'] },
    ],
  ],
  scheduler: [
    [
      'sched_context_switches',
      'counter',
      '1',
      'Times that a thread of the process left a processor',
      { ...SCHED, add: ['switches'] },
    ],
    [
      'sched_runq_latency_ns',
      'gauge',
      'ns',
      'Wait from wake-up or preemption until running, mean of the last interval',
      { ...SCHED, add: ['wait'] },
    ],
    ['sched_oncpu_ns', 'counter', 'ns', 'Time on processors', { ...SCHED, add: ['on_cpu'] }],
    [
      'sched_migrations',
      'counter',
      '1',
      'Moves from one processor to another',
      { ...SCHED, add: ['migrations'] },
    ],
  ],
  memory: [
    [
      'memory_page_faults',
      'counter',
      '1',
      'Page faults, minor and major',
      { ...MEMORY, add: ['minor_faults', 'major_faults'] },
    ],
    [
      'memory_major_faults',
      'counter',
      '1',
      'Page faults that had to read from disk',
      { ...MEMORY, add: ['major_faults'] },
    ],
    [
      'memory_minor_faults',
      'counter',
      '1',
      'Page faults that were served from memory',
      { ...MEMORY, add: ['minor_faults'] },
    ],
  ],
  tcp_state: [
    [
      'tcp_state_transitions',
      'counter',
      '1',
      'Changes of the state of TCP sockets',
      {
        table: 'tcp_state',
        // Without pid: most changes come with a packet, whoever runs then.
        labels: {
          old_state: { column: 'from_state', values: STATES },
          new_state: { column: 'to_state', values: STATES },
        },
        add: ['transitions'],
      },
    ],
  ],
};

export const tfo_metrics: readonly TfoMetric[] = Object.entries(METRICS).flatMap(
  ([collector, rows]) =>
    rows.map(([name, type, unit, help, from]): TfoMetric => {
      return { name: `tfo_ebpf_${name}`, collector, type, unit, help, rows: [from] };
    }),
);

function of(table: string, labels: TfoRows['labels'], measure: string): TfoRows {
  return { table, labels, add: [measure] };
}
