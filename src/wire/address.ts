// Where plain text may go: to this machine, or where the operator said so by name.
import { isIP } from 'node:net';
import { OperatorError } from './error.ts';

/** True for names and addresses that cannot leave this machine. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase();
  if (name === 'localhost' || name === '::1') return true;
  if (name.startsWith('::ffff:')) return isLoopback(name.slice(7));
  return isIP(name) === 4 && name.startsWith('127.');
}

/** `host:port`, with the brackets that an IPv6 address needs. */
export function authority(host: string, port: number): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Throws OperatorError unless `host` and `port` can be an address. */
export function checkAddress(host: string, port: number): void {
  const named = /^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?$/.test(host);
  if (!named && isIP(host) === 0) {
    const message = `Cannot use ${JSON.stringify(host)} as an address`;
    throw new OperatorError('wire_address', message, 'give a name, an IPv4 or an IPv6 address');
  }
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    const message = `Cannot use ${port} as a port`;
    throw new OperatorError('wire_address', message, 'give a number from 0 to 65535');
  }
}

/** Throws OperatorError when plain text would leave this machine without having been allowed. */
export function checkPlaintext(verb: string, host: string, allow: boolean): void {
  if (allow || isLoopback(host)) return;
  const message = `Cannot ${verb} ${host} in plain text: it is not this machine`;
  throw new OperatorError('wire_plaintext', message, 'configure TLS, or set allow_plaintext: true');
}
