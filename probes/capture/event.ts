// A captured exchange as a line of JSON, redacted.

import type { Owner } from '../../src/table/probe.ts';
import type { Connection, Exchange } from './connection.ts';
import type { Message } from './message.ts';
import type { Redactor } from './redact.ts';

/** What the line says beside the messages. */
export interface EventContext {
  readonly connection: Connection;
  readonly owner: Owner;
  /** ROLE_INCOMING: the watched end is the server. */
  readonly server: boolean;
  readonly complete: boolean;
  /** Wall clock minus CLOCK_BOOTTIME, milliseconds. */
  readonly offset_ms: number;
}

export function eventLine(
  { request, response }: Exchange,
  { connection, owner, server, complete, offset_ms }: EventContext,
  redactor: Redactor,
): string {
  const { ends } = connection;
  const end_ns = response?.end_ns ?? request.end_ns;
  const local = { address: ends.local_ip, port: ends.local_port };
  const peer = { address: ends.peer_ip, port: ends.peer_port };
  return JSON.stringify({
    time: isoTime(offset_ms + request.begin_ns / 1e6),
    duration_us: Math.round((end_ns - request.begin_ns) / 1000),
    mode: server ? 'ingress' : 'egress',
    complete,
    connection: String(ends.cookie),
    client: server ? peer : local,
    server: server ? local : peer,
    netns: ends.netns,
    process: {
      pid: connection.owner_tgid,
      name: owner.process_name,
      executable_path: owner.process_executable_path,
      cgroup_path: owner.cgroup_path,
      container_id: owner.container_id,
    },
    request: {
      method: request.head.method,
      target: redactor.target(request.head.target),
      ...message(request, redactor),
    },
    response:
      response === undefined
        ? null
        : { status: response.head.status, ...message(response, redactor) },
  });
}

function message(one: Message, redactor: Redactor): object {
  const { head } = one;
  const cut = one.cut !== '' || !one.complete;
  const body = redactor.body(head.headers, one.body, cut);
  return {
    version: head.version,
    headers: redactor.headers(head.headers),
    ...(head.headers_cut > 0 && { headers_cut: head.headers_cut }),
    body: body.text,
    body_encoding: body.encoding,
    body_bytes: one.body_bytes,
    ...(one.trailers.length > 0 && { trailers: redactor.headers(one.trailers) }),
    complete: one.complete,
    ...(one.cut !== '' && { cut: one.cut }),
    ...(body.decoded !== '' && { body_decoded: body.decoded }),
    ...(body.withheld !== '' && { body_withheld: body.withheld }),
  };
}

function isoTime(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? '' : date.toISOString();
}
