// Capture of whole HTTP messages as data; its kernel part is capture.bpf.h, its records are read by decode.ts.

import type {
  DecodeContext,
  MapDecoder,
  MapEntries,
  Probe,
  ProbeOptions,
} from '../../src/table/probe.ts';
import { capture_count, capture_mode, record_kind } from '../layout.gen.ts';
import { packetVariants } from '../packets.ts';
import { apiCatalog } from './catalog.ts';
import { CAPTURE_DEFAULTS, CaptureDecoder } from './decode.ts';
import { captureStats } from './stats.ts';

const PAGE = 4096;
const U32 = 2 ** 32;

const decoders = new WeakMap<DecodeContext, CaptureDecoder>();

/** The same for the records and the counters of a collector. */
function decoderOf(context: DecodeContext): CaptureDecoder {
  const known = decoders.get(context);
  if (known !== undefined) return known;
  const decoder = new CaptureDecoder(context);
  decoders.set(context, decoder);
  return decoder;
}

class CountsDecoder implements MapDecoder {
  readonly #decoder: CaptureDecoder;

  constructor(context: DecodeContext) {
    this.#decoder = decoderOf(context);
  }

  begin(entries: MapEntries): void {
    this.#decoder.beginAt(countsOf(entries));
  }

  rows(entries: MapEntries): void {
    this.#decoder.kernelCounts(countsOf(entries));
  }
}

/** Over all CPUs, by `capture_count`. */
function countsOf({ count, keys, values, value_stride }: MapEntries): readonly number[] {
  const key = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
  const value = new DataView(values.buffer, values.byteOffset, values.byteLength);
  const sums: number[] = new Array(capture_count.CAPTURE_COUNT_MAX).fill(0);
  for (let i = 0; i < count; i += 1) {
    let sum = 0;
    for (let at = 0; at < value_stride; at += 8) {
      const place = i * value_stride + at;
      sum += value.getUint32(place, true) + value.getUint32(place + 4, true) * U32;
    }
    sums[key.getUint32(i * 4, true)] = sum;
  }
  return sums;
}

/** Bits of `enum capture_mode` for a mode of the configuration. */
export function modeBits(mode: 'ingress' | 'egress' | 'all'): number {
  const { CAPTURE_INGRESS, CAPTURE_EGRESS } = capture_mode;
  if (mode === 'all') return CAPTURE_INGRESS | CAPTURE_EGRESS;
  return mode === 'ingress' ? CAPTURE_INGRESS : CAPTURE_EGRESS;
}

function constants({ capture = CAPTURE_DEFAULTS, ring_bytes = 0 }: Readonly<ProbeOptions>) {
  const share = capture.perfmap_queue_size * PAGE;
  return {
    capture_all: capture.capture_all_namespaces ? modeBits(capture.mode) : 0,
    capture_max: capture.message_bytes_max,
    // a quarter of the ring always stays for what the others count
    capture_ring: ring_bytes > 0 ? Math.min(share, ring_bytes - ring_bytes / 4) : share,
  };
}

export const capture: Probe = {
  name: 'capture',
  help: 'whole HTTP requests and responses of selected processes, redacted, for a reader of their own; and the API catalogue',
  enabled_default: false,
  tables: [captureStats, apiCatalog],
  enabled_variable: 'capture_enabled',
  yields: 2,
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'],
  parts: [
    {
      name: 'packets',
      help: 'payloads of selected connections, in both directions',
      required: true,
      variants: packetVariants('what is encrypted, and sockets of the family AF_UNIX'),
    },
  ],
  sweeps: [],
  records: [{ kind: record_kind.RECORD_CAPTURE, open: decoderOf }],
  map_sources: [
    { map: 'capture_counts', read: 'copy', open: (context) => new CountsDecoder(context) },
  ],
  own_maps: ['capture_procs', 'capture_groups', 'capture_ports', 'capture_conns'],
  constants,
};
