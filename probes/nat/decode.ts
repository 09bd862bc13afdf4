// Decodes what the NAT probe tells of a TCP connection before its first request: where its packets go.

import { ENDS_BYTES, NAT_BYTES, NAT_PORT } from '../../src/table/nat.ts';
import type { DecodeContext, RecordDecoder, RecordSource } from '../../src/table/probe.ts';
import { FlowRecordView, flow_record, record_kind } from '../layout.gen.ts';

export const natRecords: RecordSource = {
  kind: record_kind.RECORD_NAT,
  open: (context) => new NatDecoder(context),
};

class NatDecoder implements RecordDecoder {
  readonly #context: DecodeContext;
  readonly #view = new FlowRecordView(new Uint8Array(0));
  #bytes: Buffer = Buffer.alloc(0);

  constructor(context: DecodeContext) {
    this.#context = context;
  }

  over(bytes: Uint8Array): void {
    this.#view.over(bytes);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  decode(at: number, length: number): boolean {
    if (length < flow_record.SIZE) return false;
    const view = this.#view.move(at);
    const ends = Buffer.alloc(ENDS_BYTES);
    this.#bytes.copy(ends, 0, view.local_addr_offset, view.local_addr_offset + ENDS_BYTES);
    const nat = Buffer.alloc(NAT_BYTES);
    this.#bytes.copy(nat, 0, view.nat_addr_offset, view.nat_addr_offset + NAT_PORT);
    nat.writeUInt16LE(view.nat_port, NAT_PORT);
    this.#context.nat?.learn(view.transport, view.netns, ends, nat);
    return true;
  }
}
