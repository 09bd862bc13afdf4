// Columns → exposition text, of the tables about cgroups, TCP states and network namespaces.

import assert from 'node:assert/strict';
import test from 'node:test';
import { PrometheusOutlet } from '../src/outlet/prometheus.ts';
import type { TableDefinition } from '../src/table/definition.ts';
import { Fold } from '../src/table/fold.ts';
import { cgroup_packets } from './cgroup/table.ts';
import { networkDropsTable, networkTable } from './network/network.ts';
import { tcpConnectionsTable, tcpStateTable } from './tcpstate/tcpstate.ts';

type Row = Readonly<Record<string, string | number>>;

/** The lines of the page for these rows; columns that are not named are empty. */
async function page(table: TableDefinition, rows: readonly Row[]): Promise<readonly string[]> {
  const fold = new Fold(table);
  for (const row of rows) {
    const dims = table.dimensions.map(({ name, type }) =>
      type === 'string' ? fold.intern(String(row[name] ?? '')) : Number(row[name] ?? 0),
    );
    const measures = table.measures.map(({ name }) => Number(row[name] ?? Number.NaN));
    fold.add(Float64Array.from(dims), Float64Array.from(measures));
  }
  const outlet = new PrometheusOutlet([table]);
  outlet.add(fold.close(1000)!, 'h', 1000);
  return (await outlet.text()).split('\n');
}

const GROUP =
  'direction="egress",family="IPv6",cgroup_id="7",cgroup_path="/a",container_id="c",k8s_pod_uid="u"';

const CASES: readonly (readonly [TableDefinition, readonly Row[], readonly string[]])[] = [
  [
    cgroup_packets,
    [
      {
        ...{ direction: 'egress', family: 'IPv6', cgroup_id: 7, cgroup_path: '/a', packets: 3 },
        ...{ container_id: 'c', k8s_pod_uid: 'u', bytes: 240, segments: 5 },
      },
    ],
    [
      '# TYPE sonde_cgroup_packets_packets_total counter',
      `sonde_cgroup_packets_packets_total{host="h",${GROUP}} 3`,
      `sonde_cgroup_packets_bytes_total{host="h",${GROUP}} 240`,
    ],
  ],
  [
    tcpStateTable,
    [
      {
        ...{ pid: 9, process_name: 'nginx', netns: 5, transitions: 4, lasted: 1000 },
        ...{ old_state: 'SYN-SENT', new_state: 'ESTABLISHED' },
      },
    ],
    [
      '# TYPE sonde_tcp_state_transitions_total counter',
      'sonde_tcp_state_transitions_total{host="h",pid="9",process_name="nginx",netns="5",old_state="SYN-SENT",new_state="ESTABLISHED"} 4',
      '# TYPE sonde_tcp_state_lasted_seconds histogram',
    ],
  ],
  [
    tcpConnectionsTable,
    [
      { pid: 9, process_name: 'nginx', state: 'ESTABLISHED', connections: 4 },
      { pid: 9, process_name: 'nginx', state: 'ESTABLISHED', connections: 2 },
    ],
    [
      '# TYPE sonde_tcp_connections_connections gauge',
      'sonde_tcp_connections_connections{host="h",pid="9",process_name="nginx",state="ESTABLISHED"} 2',
    ],
  ],
  [
    networkTable,
    [{ netns: 5, container_id: 'c', tcp_retransmits: 3, listen_drops: 1 }],
    [
      'sonde_network_tcp_retransmits_total{host="h",netns="5",container_id="c"} 3',
      'sonde_network_listen_drops_total{host="h",netns="5",container_id="c"} 1',
    ],
  ],
  [
    networkDropsTable,
    [{ netns: 5, reason: 'NO_SOCKET', protocol: 'IPv4', packets: 3, bytes: 120 }],
    [
      'sonde_network_drops_packets_total{host="h",netns="5",reason="NO_SOCKET",protocol="IPv4"} 3',
      'sonde_network_drops_bytes_total{host="h",netns="5",reason="NO_SOCKET",protocol="IPv4"} 120',
    ],
  ],
];

for (const [table, rows, expected] of CASES) {
  test(`the page of ${table.name}`, async () => {
    const lines = await page(table, rows);
    for (const line of expected) assert.ok(lines.includes(line), `${line}\n${lines.join('\n')}`);
  });
}
