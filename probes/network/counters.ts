// The protocol counters of a network namespace as /proc/PID/net has them, and which of them are measures.

import type { Measure } from '../../src/table/definition.ts';

/** Name of a counter → value: `Tcp.RetransSegs`, `TcpExt.ListenDrops`, `Ip6InOctets`. */
export type Counters = ReadonlyMap<string, number>;

type Row = readonly [name: string, unit: '1' | 'By', help: string, counters: readonly string[]];

/** Measure → what it is the sum of. A kernel without IPv6 has no counters of it. */
const ROWS: readonly Row[] = [
  ['packets_received', '1', 'packets that came in', ['Ip.InReceives', 'Ip6InReceives']],
  ['packets_sent', '1', 'packets that programs here sent', ['Ip.OutRequests', 'Ip6OutRequests']],
  ['bytes_received', 'By', 'bytes of packets that came in', ['IpExt.InOctets', 'Ip6InOctets']],
  ['bytes_sent', 'By', 'bytes of packets that went out', ['IpExt.OutOctets', 'Ip6OutOctets']],
  ['tcp_segments_received', '1', 'TCP segments that came in', ['Tcp.InSegs']],
  ['tcp_segments_sent', '1', 'TCP segments that went out, repeats not counted', ['Tcp.OutSegs']],
  ['tcp_retransmits', '1', 'TCP segments sent again', ['Tcp.RetransSegs']],
  ['tcp_timeouts', '1', 'times that a TCP timer ran out', ['TcpExt.TCPTimeouts']],
  ['tcp_resets_sent', '1', 'TCP resets sent, also where nobody listens', ['Tcp.OutRsts']],
  ['tcp_connections_reset', '1', 'open TCP connections ended by a reset', ['Tcp.EstabResets']],
  ['tcp_attempts_failed', '1', 'TCP connections that never opened', ['Tcp.AttemptFails']],
  [
    'listen_overflows',
    '1',
    'connections refused since nobody accepted the ones before',
    ['TcpExt.ListenOverflows'],
  ],
  ['listen_drops', '1', 'SYNs and connections that a listener lost', ['TcpExt.ListenDrops']],
  ['syn_cookies_sent', '1', 'SYN cookies sent', ['TcpExt.SyncookiesSent']],
  ['udp_no_port', '1', 'datagrams to ports where nobody listens', ['Udp.NoPorts', 'Udp6NoPorts']],
  [
    'udp_receive_buffer_errors',
    '1',
    'datagrams lost since their reader was too slow',
    ['Udp.RcvbufErrors', 'Udp6RcvbufErrors'],
  ],
  [
    'udp_receive_errors',
    '1',
    'datagrams lost for any reason but the port',
    ['Udp.InErrors', 'Udp6InErrors'],
  ],
];

export const networkMeasures: readonly Measure[] = ROWS.map(
  ([name, unit, help]): Measure => ({ name, type: 'u64', unit, fold: 'sum', help }),
);

/** In the order of `networkMeasures`. */
export function measuresOf(counters: Counters): Float64Array {
  return Float64Array.from(ROWS, ([, , , names]) =>
    names.reduce((sum, name) => sum + (counters.get(name) ?? 0), 0),
  );
}

/** Reads the text of `snmp`, `netstat` (a line of names, a line of values) and `snmp6` (a name and a value a line). */
export function parseCounters(...texts: readonly string[]): Counters {
  const counters = new Map<string, number>();
  for (const text of texts) {
    let names: readonly string[] = [];
    for (const line of text.split('\n')) {
      const words = line.split(/\s+/).filter((word) => word !== '');
      const [head = ''] = words;
      if (!head.endsWith(':')) put(counters, head, words[1]);
      else if (names[0] !== head) names = words;
      else {
        const group = head.slice(0, -1);
        for (let i = 1; i < words.length; i += 1) put(counters, `${group}.${names[i]}`, words[i]);
        names = [];
      }
    }
  }
  return counters;
}

/** What is no count is left out: `Tcp.MaxConn` is -1. */
function put(counters: Map<string, number>, name: string, text: string | undefined): void {
  const value = Number(text);
  if (text !== undefined && Number.isSafeInteger(value) && value >= 0) counters.set(name, value);
}
