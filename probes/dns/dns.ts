// The DNS probe as data; its kernel part is dns.bpf.h, its records are decoded by decoder.ts.

import type { DecodeContext, MapDecoder, Probe } from '../../src/table/probe.ts';
import { record_kind } from '../layout.gen.ts';
import { packetVariants } from '../packets.ts';
import { DnsDecoder } from './decoder.ts';
import { dnsflow } from './dnsflow.ts';

const decoders = new WeakMap<DecodeContext, DnsDecoder>();

/** Of one collector: its ring and its map are read by the same decoder. */
function decoderOf(context: DecodeContext): DnsDecoder {
  const known = decoders.get(context);
  if (known !== undefined) return known;
  const fresh = new DnsDecoder(context);
  decoders.set(context, fresh);
  return fresh;
}

export const dns: Probe = {
  name: 'dns',
  help: 'every DNS query over UDP and TCP with its answer or its time-out, at the client and at the server',
  tables: [dnsflow],
  enabled_variable: 'dns_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'],
  parts: [
    {
      name: 'packets',
      help: 'every packet from or to a DNS port',
      required: true,
      variants: packetVariants('DNS over TLS, HTTPS and QUIC'),
    },
  ],
  sweeps: [],
  records: [{ kind: record_kind.RECORD_DNS, open: decoderOf }],
  map_sources: [
    {
      map: 'dns_lost',
      read: 'copy',
      open: (context): MapDecoder => {
        const decoder = decoderOf(context);
        return {
          rows: ({ values }) => {
            const words = new DataView(values.buffer, values.byteOffset, values.byteLength);
            decoder.lostRecords(words.getUint32(0, true) + words.getUint32(4, true) * 2 ** 32);
          },
        };
      },
    },
  ],
  constants: ({ dns: { ports } }) =>
    Object.fromEntries([0, 1, 2, 3].map((i) => [`dns_port_${i}`, ports[i] ?? 0])),
};
