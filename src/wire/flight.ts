// The Arrow Flight service over gRPC: its messages and its methods, declared by hand, since a .proto file would need
// a parser in a process with kernel rights. Field numbers are those of Flight.proto of Apache Arrow.
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { ProtoReader, ProtoWriter } from './protobuf.ts';

const EMPTY: Uint8Array = new Uint8Array(0);

/** What came in: a message, or the reason why the bytes are none. Bad bytes are a value and a counter. */
export type Decoded<T> = { ok: true; value: T } | { ok: false; reason: string };

export interface FlightDescriptor {
  /** The name of the stream, as a path. Empty when `command` is used. */
  readonly path: readonly string[];
  readonly command: Uint8Array;
}

export interface FlightData {
  readonly descriptor: FlightDescriptor | undefined;
  /** The flatbuffer of an Arrow IPC message. */
  readonly data_header: Uint8Array;
  readonly app_metadata: Uint8Array;
  readonly data_body: Uint8Array;
}

export interface FlightInfo {
  /** The schema as an encapsulated Arrow IPC message. */
  readonly schema: Uint8Array;
  readonly descriptor: FlightDescriptor | undefined;
  /** The tickets which DoGet answers on this same connection. */
  readonly tickets: readonly Uint8Array[];
  /** -1 when unknown. */
  readonly total_records: number;
  readonly total_bytes: number;
}

export interface Action {
  readonly type: string;
  readonly body: Uint8Array;
}

export interface ActionType {
  readonly type: string;
  readonly description: string;
}

export interface Handshake {
  readonly protocol_version: number;
  readonly payload: Uint8Array;
}

interface Codec<T> {
  encode(value: T): Buffer;
  decode(bytes: Uint8Array): Decoded<T>;
}

/** Of a FlightDescriptor: `type` is 1 for a path, 2 for a command. */
const DESCRIPTOR_PATH = 1;
const DESCRIPTOR_COMMAND = 2;
const PATH_PARTS_MAX = 16;

function malformed<T>(what: string): Decoded<T> {
  return { ok: false, reason: `malformed ${what}` };
}

export const flight_descriptor: Codec<FlightDescriptor> = {
  encode(value) {
    const writer = new ProtoWriter();
    writer.integer(1, value.path.length > 0 ? DESCRIPTOR_PATH : DESCRIPTOR_COMMAND);
    writer.bytes(2, value.command);
    for (const part of value.path) writer.message(3, Buffer.from(part, 'utf8'));
    return writer.finish();
  },
  decode(bytes) {
    const reader = new ProtoReader(bytes);
    const path: string[] = [];
    let command: Uint8Array = EMPTY;
    while (reader.next()) {
      if (reader.field === 2) command = reader.bytes();
      else if (reader.field === 3) path.push(reader.string());
      if (path.length > PATH_PARTS_MAX) return malformed('FlightDescriptor: too many path parts');
    }
    return reader.ok ? { ok: true, value: { path, command } } : malformed('FlightDescriptor');
  },
};

export const flight_data: Codec<FlightData> = {
  encode(value) {
    const writer = new ProtoWriter();
    if (value.descriptor) writer.message(1, flight_descriptor.encode(value.descriptor));
    writer.bytes(2, value.data_header);
    writer.bytes(3, value.app_metadata);
    // Written even when empty: some readers take a message without the field for one without a body.
    writer.message(1000, value.data_body);
    return writer.finish();
  },
  decode(bytes) {
    const reader = new ProtoReader(bytes);
    let descriptor: FlightDescriptor | undefined;
    let data_header = EMPTY;
    let app_metadata = EMPTY;
    let data_body = EMPTY;
    while (reader.next()) {
      if (reader.field === 2) data_header = reader.bytes();
      else if (reader.field === 3) app_metadata = reader.bytes();
      else if (reader.field === 1000) data_body = reader.bytes();
      else if (reader.field === 1) {
        const inner = flight_descriptor.decode(reader.bytes());
        if (!inner.ok) return inner;
        descriptor = inner.value;
      }
    }
    if (!reader.ok) return malformed('FlightData');
    return { ok: true, value: { descriptor, data_header, app_metadata, data_body } };
  },
};

/** PutResult, Ticket, Criteria, Result and SchemaResult are each one field of bytes with number 1. */
function bytesMessage(name: string): Codec<Uint8Array> {
  return {
    encode: (value) => new ProtoWriter().bytes(1, value).finish(),
    decode(bytes) {
      const reader = new ProtoReader(bytes);
      let value: Uint8Array = EMPTY;
      while (reader.next()) if (reader.field === 1) value = reader.bytes();
      return reader.ok ? { ok: true, value } : malformed(name);
    },
  };
}

export const put_result = bytesMessage('PutResult');
export const ticket = bytesMessage('Ticket');
export const criteria = bytesMessage('Criteria');
export const action_result = bytesMessage('Result');
export const schema_result = bytesMessage('SchemaResult');

export const handshake: Codec<Handshake> = {
  encode: (value) =>
    new ProtoWriter().integer(1, value.protocol_version).bytes(2, value.payload).finish(),
  decode(bytes) {
    const reader = new ProtoReader(bytes);
    let protocol_version = 0;
    let payload: Uint8Array = EMPTY;
    while (reader.next()) {
      if (reader.field === 1) protocol_version = reader.integer();
      else if (reader.field === 2) payload = reader.bytes();
    }
    return reader.ok ? { ok: true, value: { protocol_version, payload } } : malformed('Handshake');
  },
};

export const action: Codec<Action> = {
  encode: (value) => new ProtoWriter().string(1, value.type).bytes(2, value.body).finish(),
  decode(bytes) {
    const reader = new ProtoReader(bytes);
    let type = '';
    let body: Uint8Array = EMPTY;
    while (reader.next()) {
      if (reader.field === 1) type = reader.string();
      else if (reader.field === 2) body = reader.bytes();
    }
    return reader.ok ? { ok: true, value: { type, body } } : malformed('Action');
  },
};

export const action_type: Codec<ActionType> = {
  encode: (value) => new ProtoWriter().string(1, value.type).string(2, value.description).finish(),
  decode(bytes) {
    const reader = new ProtoReader(bytes);
    let [type, description] = ['', ''];
    while (reader.next()) {
      if (reader.field === 1) type = reader.string();
      else if (reader.field === 2) description = reader.string();
    }
    return reader.ok ? { ok: true, value: { type, description } } : malformed('ActionType');
  },
};

export const flight_info: Codec<FlightInfo> = {
  encode(value) {
    const writer = new ProtoWriter().bytes(1, value.schema);
    if (value.descriptor) writer.message(2, flight_descriptor.encode(value.descriptor));
    for (const one of value.tickets) {
      const endpoint = new ProtoWriter().message(1, ticket.encode(one)).finish();
      writer.message(3, endpoint);
    }
    return writer.integer(4, value.total_records).integer(5, value.total_bytes).finish();
  },
  decode(bytes) {
    const reader = new ProtoReader(bytes);
    const tickets: Uint8Array[] = [];
    let schema: Uint8Array = EMPTY;
    let descriptor: FlightDescriptor | undefined;
    let [total_records, total_bytes] = [0, 0];
    while (reader.next()) {
      if (reader.field === 1) schema = reader.bytes();
      else if (reader.field === 4) total_records = reader.integer();
      else if (reader.field === 5) total_bytes = reader.integer();
      else if (reader.field === 2) {
        const inner = flight_descriptor.decode(reader.bytes());
        if (!inner.ok) return inner;
        descriptor = inner.value;
      } else if (reader.field === 3) {
        const inner = decodeEndpoint(reader.bytes());
        if (!inner.ok) return inner;
        tickets.push(inner.value);
      }
    }
    if (!reader.ok) return malformed('FlightInfo');
    return { ok: true, value: { schema, descriptor, tickets, total_records, total_bytes } };
  },
};

function decodeEndpoint(bytes: Uint8Array): Decoded<Uint8Array> {
  const reader = new ProtoReader(bytes);
  let inner: Decoded<Uint8Array> = { ok: true, value: EMPTY };
  while (reader.next() && inner.ok) if (reader.field === 1) inner = ticket.decode(reader.bytes());
  return reader.ok ? inner : malformed('FlightEndpoint');
}

/** Google's Empty, and answers that we never send (PollInfo). */
const empty: Codec<undefined> = {
  encode: () => Buffer.alloc(0),
  decode: () => ({ ok: true, value: undefined }),
};

/** Requests arrive as `Decoded`, so that a malformed one reaches our handler and its counter. */
function method<Request, Response>(
  name: string,
  request: Codec<Request>,
  response: Codec<Response>,
  streams: { request?: boolean; response?: boolean },
): MethodDefinition<Request, Decoded<Response>> {
  // grpc-js declares one type for what the client sends and the server receives. Here they differ: the sender gives
  // a value, the receiver gets a `Decoded`. Only these two lines know it; `FlightRequest` below is the server's type.
  const requestDeserialize = request.decode as unknown as (bytes: Buffer) => Request;
  const responseSerialize = response.encode as unknown as (value: Decoded<Response>) => Buffer;
  return {
    path: `/arrow.flight.protocol.FlightService/${name}`,
    requestStream: streams.request ?? false,
    responseStream: streams.response ?? false,
    requestSerialize: request.encode,
    requestDeserialize,
    responseSerialize,
    responseDeserialize: response.decode,
  };
}

const to_client = { response: true };
const both = { request: true, response: true };

/** Every method of `arrow.flight.protocol.FlightService`. */
export const flight_service = {
  Handshake: method('Handshake', handshake, handshake, both),
  ListFlights: method('ListFlights', criteria, flight_info, to_client),
  GetFlightInfo: method('GetFlightInfo', flight_descriptor, flight_info, {}),
  PollFlightInfo: method('PollFlightInfo', flight_descriptor, empty, {}),
  GetSchema: method('GetSchema', flight_descriptor, schema_result, {}),
  DoGet: method('DoGet', ticket, flight_data, to_client),
  DoPut: method('DoPut', flight_data, put_result, both),
  DoExchange: method('DoExchange', flight_data, flight_data, both),
  DoAction: method('DoAction', action, action_result, to_client),
  ListActions: method('ListActions', empty, action_type, to_client),
} satisfies ServiceDefinition;
