// Whom a client of the reducer trusts, and what it shows. Files are read for each connection: renewed ones serve the next.

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity, createSecureContext, type PeerCertificate } from 'node:tls';
import { type ChannelCredentials, type ChannelOptions, credentials } from '@grpc/grpc-js';
import { OperatorError, reasonOf } from './error.ts';

/** Paths of PEM files. Without `ca` and `reducer_cert` the system's roots are trusted. */
export interface ClientTls {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** The name on the reducer's certificate when it is not the host. */
  readonly server_name?: string;
  /** The certificate that the reducer shows, of who has it: trusted whoever signed it, and whatever names it has. */
  readonly reducer_cert?: string;
}

/** A server name must be none of an address, and the gRPC library sends one always: nobody has this one. */
const NO_NAME = 'reducer.invalid';

export interface ChannelParts {
  readonly creds: ChannelCredentials;
  readonly options: ChannelOptions;
}

/**
 * Without `tls` plain text.
 *
 * @throws {OperatorError} `wire_tls`, for a file that cannot be read, or holds nothing of its kind.
 */
export function channelTo(host: string, tls: ClientTls | undefined): ChannelParts {
  if (tls === undefined) return { creds: credentials.createInsecure(), options: {} };
  const { server_name } = tls;
  const name = server_name ?? host;
  const { context, known } = trust(tls);
  const creds = credentials.createFromSecureContext(context, {
    checkServerIdentity: (_name: string, shown: PeerCertificate) =>
      known?.raw.equals(shown.raw) ? undefined : checkServerIdentity(name, shown),
  });
  const options = {
    ...(server_name !== undefined && { 'grpc.default_authority': server_name }),
    'grpc.ssl_target_name_override': isIP(name) === 0 ? name : NO_NAME,
  };
  return { creds, options };
}

function trust({ ca, cert, key, reducer_cert }: ClientTls) {
  const read = (path: string | undefined) => (path === undefined ? undefined : readPem(path));
  const pinned = read(reducer_cert);
  const trusted = [read(ca), pinned].filter((pem) => pem !== undefined);
  const parts = {
    ...(trusted.length > 0 && { ca: trusted }),
    cert: read(cert),
    key: read(key),
    // else a certificate would be trusted only with the one that signed it
    allowPartialTrustChain: pinned !== undefined,
  };
  try {
    return { context: createSecureContext(parts), known: pinned && new X509Certificate(pinned) };
  } catch (error) {
    throw unusableTls([ca, cert, key, reducer_cert], error);
  }
}

export function unusableTls(paths: readonly (string | undefined)[], error: unknown): OperatorError {
  const files = paths.filter((path) => path !== undefined).join(', ');
  const why = error instanceof Error ? error.message.replace(/^error:.*::/, '') : String(error);
  const message = `Cannot use the TLS files ${files}: ${why}`;
  return new OperatorError('wire_tls', message, 'give a certificate and its own key, in PEM');
}

/** @throws {OperatorError} */
export function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const message = `Cannot read ${path}: ${reasonOf(error)}`;
    throw new OperatorError('wire_tls', message, 'name a PEM file that can be read');
  }
}
