// The TLS probe as data: where its programs stand in TLS libraries. The kernel part is tls.bpf.h; its rows are those of the `http`
// source, with `tls` set.

import type { Probe } from '../../src/table/probe.ts';
import { httpRecords } from '../http/decode.ts';
import { httpConstants, httpTotals } from '../http/totals.ts';
import { http2Records } from '../http2/decode.ts';
import { httpflow } from '../httpflow.ts';
import { pair } from '../kernel_maps.ts';
import { placesInGo } from './go_places.ts';
import { placesInGnuTls, placesInOpenSsl } from './places.ts';

export const tls: Probe = {
  name: 'tls',
  help: 'requests of HTTP under TLS, at the ends that are on this host: OpenSSL, GnuTLS, Go',
  enabled_default: false,
  tables: [httpflow],
  enabled_variable: 'tls_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_SYS_PTRACE', 'CAP_DAC_READ_SEARCH'],
  parts: [
    {
      name: 'plain text',
      help: 'what programs give to and get from their TLS library',
      required: true,
      variants: [
        {
          name: 'uprobes',
          programs: [
            'tls_read',
            'tls_write',
            'tls_sendfile',
            'tls_return',
            'tls_return_ex',
            'tls_handshake',
            'tls_shaken',
            'tls_free',
          ],
          needs: ['atomics'],
        },
      ],
    },
    {
      name: 'go',
      help: 'the same of Go programs',
      required: false,
      variants: [
        {
          name: 'uprobes',
          programs: ['tls_go_write', 'tls_go_read', 'tls_go_copy'],
          needs: ['atomics'],
        },
      ],
    },
    {
      name: 'sockets',
      help: 'which connection a session is on',
      required: false,
      variants: [
        {
          name: 'socket calls',
          programs: ['sock_recv', 'sock_send'],
          needs: ['tp:sock_recv_length', 'tp:sock_send_length', 'atomics'],
        },
        {
          name: 'receive window',
          programs: ['tcp_read'],
          needs: ['tp:tcp_rcv_space_adjust', 'atomics'],
          misses: 'addresses of a session that only writes',
        },
      ],
    },
    {
      name: 'report',
      help: 'what each session did so far, each interval',
      required: true,
      variants: [
        { name: 'map walk', programs: ['tls_sweep', 'http_rest_sweep'], needs: ['atomics'] },
      ],
    },
  ],
  sweeps: [
    { programs: ['tls_sweep'], map: 'tls_conns', when: 'interval' },
    { programs: ['http_rest_sweep'], map: 'http_rests', when: 'interval' },
  ],
  records: [httpRecords, http2Records],
  map_sources: [httpTotals],
  constants: httpConstants,
  map_entries: ({ maps }) => ({ tls_conns: Math.ceil(maps.sockets_max / 4) }),
  own_maps: ['tls_conns', 'tls_blank', 'tls_threads', 'tls_go_reads'],
  global_maps: [...pair(httpTotals.map), 'http2_works'],
  uprobes: [
    {
      name: 'openssl',
      help: 'SSL_read and SSL_write, shared or within a program (Node)',
      libraries: /^libssl[.-]|^libssl3\.so/,
      executables: /./,
      standing: ['/usr/lib/*/libssl.so.*', '/usr/lib64/libssl.so.*', '/usr/lib/libssl.so.*'],
      places: placesInOpenSsl,
    },
    {
      name: 'gnutls',
      help: 'gnutls_record_recv and gnutls_record_send',
      libraries: /^libgnutls\.so/,
      executables: /./,
      standing: ['/usr/lib/*/libgnutls.so.*', '/usr/lib64/libgnutls.so.*'],
      places: placesInGnuTls,
    },
    {
      name: 'go',
      help: 'crypto/tls in Go programs, stripped or not',
      executables: /./,
      places: placesInGo,
    },
  ],
};
