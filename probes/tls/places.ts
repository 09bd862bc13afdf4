// Where the programs of the TLS probe stand in the libraries' code.

import type { CodeFile, CodeSymbol, Placement } from '../../src/table/probe.ts';
import { cheapEntry, firstCall, isEmulated } from './x86.ts';

const ENTRY_BYTES = 96;
const ENDBR64 = [0xf3, 0x0f, 0x1e, 0xfa];

/** Of a call that reads, writes or shakes hands: the program at its begin. */
type Begin = 'tls_read' | 'tls_write' | 'tls_sendfile' | 'tls_handshake';
type Return = 'tls_return' | 'tls_return_ex' | 'tls_shaken';

export function placesInOpenSsl(file: CodeFile): readonly Placement[] {
  const names = ['SSL_read', 'SSL_read_ex', 'SSL_write', 'SSL_write_ex'];
  const symbols = file.symbols([...names, 'SSL_sendfile', 'SSL_do_handshake', 'SSL_free']);
  if (!symbols.has('SSL_read') || !symbols.has('SSL_write')) return [];
  return [
    ...ofCall(file, symbols, 'SSL_read', 'tls_read'),
    ...ofCall(file, symbols, 'SSL_write', 'tls_write'),
    ...both(file, symbols.get('SSL_sendfile'), 'tls_sendfile', 'tls_return'),
    ...both(file, symbols.get('SSL_do_handshake'), 'tls_handshake', 'tls_shaken'),
    ...entry(file, symbols.get('SSL_free'), 'tls_free'),
  ];
}

export function placesInGnuTls(file: CodeFile): readonly Placement[] {
  const names = ['gnutls_record_recv', 'gnutls_record_send', 'gnutls_handshake', 'gnutls_deinit'];
  const symbols = file.symbols(names);
  const [recv, send] = [symbols.get('gnutls_record_recv'), symbols.get('gnutls_record_send')];
  if (recv === undefined || send === undefined) return [];
  return [
    ...both(file, recv, 'tls_read', 'tls_return'),
    ...both(file, send, 'tls_write', 'tls_return'),
    ...both(file, symbols.get('gnutls_handshake'), 'tls_handshake', 'tls_shaken'),
    ...entry(file, symbols.get('gnutls_deinit'), 'tls_free'),
  ];
}

/**
 * SSL_read and SSL_read_ex call one function of the same arguments as the latter (ssl_read_internal), where they do. It begins
 * with a push, on which a return probe costs a fraction; they do not.
 */
function ofCall(
  file: CodeFile,
  symbols: ReadonlyMap<string, CodeSymbol>,
  name: string,
  begin: Begin,
): readonly Placement[] {
  const [plain, ex] = [symbols.get(name)!, symbols.get(`${name}_ex`)];
  const inner = file.machine === 'x64' && ex ? innerOf(file, plain, ex) : undefined;
  if (inner !== undefined) return both(file, { offset: inner, size: 0 }, begin, 'tls_return_ex');
  const of_ex = ex === undefined ? [] : both(file, ex, begin, 'tls_return_ex');
  return [...both(file, plain, begin, 'tls_return'), ...of_ex];
}

function innerOf(file: CodeFile, plain: CodeSymbol, ex: CodeSymbol): number | undefined {
  const [called, called_by_ex] = [plain, ex].map(({ offset }) => {
    const distance = firstCall(file.read(offset, ENTRY_BYTES));
    return distance === undefined ? undefined : offset + distance;
  });
  if (called === undefined || called !== called_by_ex || called < 0) return undefined;
  // A landing pad of indirect branches changes nothing: behind it the stack is as a return probe needs it.
  const code = file.read(called, ENTRY_BYTES);
  const within = ENDBR64.every((byte, i) => code[i] === byte) ? ENDBR64.length : 0;
  return isEmulated(code, within) ? called + within : undefined;
}

function both(
  file: CodeFile,
  at: CodeSymbol | undefined,
  begin: Begin,
  end: Return,
): readonly Placement[] {
  if (at === undefined) return [];
  return [...entry(file, at, begin), { program: end, offset: at.offset, ret: true }];
}

function entry(file: CodeFile, at: CodeSymbol | undefined, program: string): readonly Placement[] {
  if (at === undefined) return [];
  const within = file.machine === 'x64' ? cheapEntry(file.read(at.offset, ENTRY_BYTES)) : 0;
  return [{ program, offset: at.offset + within }];
}
