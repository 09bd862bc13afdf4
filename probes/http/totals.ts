// Decodes the totals of frequent requests (totals.bpf.h): one entry is a kind of request, with its sums and its histogram
// for one interval.

import type {
  DecodeContext,
  MapDecoder,
  MapEntries,
  MapSource,
  ProbeOptions,
} from '../../src/table/probe.ts';
import { httpflow } from '../httpflow.ts';
import { positions } from '../interned.ts';
import { flow_role, HttpRecordView, HttpTotalView, http_total } from '../layout.gen.ts';
import { type HttpRows, httpRows } from './rows.ts';

/** What the kernel's first bucket is at scale 3: values above 2^(72 / 8) ns, which are 512. */
const BUCKET_FIRST = 72;

const M = positions(httpflow.measures);

export const httpTotals: MapSource = {
  map: 'http_totals',
  read: 'turns',
  open: (context) => new HttpTotalsDecoder(context),
};

/** Client ports are folded in the kernel already; that of a configuration that was reloaded folds further. */
export function httpConstants({ ephemeral_port }: Readonly<ProbeOptions>): Record<string, number> {
  return { http_ephemeral_port: ephemeral_port };
}

class HttpTotalsDecoder implements MapDecoder {
  readonly #rows: HttpRows;
  readonly #key = new HttpRecordView(new Uint8Array(0));
  readonly #total = new HttpTotalView(new Uint8Array(0));
  readonly #measures = new Float64Array(httpflow.measures.length);

  constructor(context: DecodeContext) {
    this.#rows = httpRows(context);
  }

  rows({ count, keys, values, key_size, value_stride }: MapEntries, now_ms: number): void {
    const key_bytes = Buffer.from(keys.buffer, keys.byteOffset, keys.byteLength);
    const value_bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    this.#key.over(keys);
    this.#total.over(values);
    for (let i = 0; i < count; i += 1) {
      this.#rows.key(this.#key.move(i * key_size), key_bytes, now_ms);
      this.#total.move(i * value_stride);
      this.#row(value_bytes, i * value_stride + http_total.buckets);
    }
  }

  #row(values: Buffer, buckets: number): void {
    const m = this.#measures;
    const total = this.#total;
    const { dims, fold } = this.#rows;
    const serves = this.#key.role === flow_role.ROLE_INCOMING;
    m[M.count] = total.rest_requests;
    m[M.bytes_read] = serves ? total.rest_bytes_request : total.rest_bytes_response;
    m[M.bytes_written] = serves ? total.rest_bytes_response : total.rest_bytes_request;
    m[M.latency] = Number.NaN; // in buckets
    m[M.latency_max] = total.rest_answered === 0 ? Number.NaN : total.ttfb_max;
    m[M.duration] = total.rest_duration_ns;
    const row = fold.addRow(dims, m, 0);
    const histogram = fold.bucketsOf(row, M.latency, total.rest_ttfb_ns);
    for (let slot = 0; slot < http_total.buckets_length; slot += 1) {
      const requests = values.readUInt32LE(buckets + slot * 4);
      if (requests > 0) histogram.addBucket(row, slot + BUCKET_FIRST, requests);
    }
  }
}
