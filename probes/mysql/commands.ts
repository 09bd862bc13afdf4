// What a client of MySQL can ask for, by the first byte of its packet, and of what form the answer is.

/**
 * `results`: OK, an error, or a result with its columns and rows, and perhaps others behind it. `rows`: rows alone. `one`: one
 * packet. `prepared`: a statement's number, and what it takes and gives. `login`: as at the begin of a connection. `none`: no
 * answer comes. `stream`: what follows is no commands and answers.
 */
export type Form = 'results' | 'rows' | 'one' | 'prepared' | 'login' | 'none' | 'stream';

export interface Kind {
  readonly name: string;
  readonly form: Form;
  /** Of its packet: the only length, or the least. */
  readonly length: number;
  readonly exact: boolean;
}

const kind = (name: string, form: Form, length = 1, exact = false): Kind => ({
  ...{ name, form, length, exact },
});
const alone = (name: string, form: Form): Kind => kind(name, form, 1, true);

const KINDS: ReadonlyMap<number, Kind> = new Map([
  [0x01, alone('QUIT', 'none')],
  [0x02, kind('INIT_DB', 'one')],
  [0x03, kind('QUERY', 'results', 2)],
  [0x04, kind('FIELD_LIST', 'rows', 2)],
  [0x05, kind('CREATE_DB', 'one', 2)],
  [0x06, kind('DROP_DB', 'one', 2)],
  [0x07, kind('REFRESH', 'one', 2)],
  [0x08, kind('SHUTDOWN', 'one')],
  [0x09, alone('STATISTICS', 'one')],
  [0x0a, alone('PROCESS_INFO', 'results')],
  [0x0c, kind('PROCESS_KILL', 'one', 5, true)],
  [0x0d, alone('DEBUG', 'one')],
  [0x0e, alone('PING', 'one')],
  [0x11, kind('CHANGE_USER', 'login', 3)],
  [0x12, kind('BINLOG_DUMP', 'stream')],
  [0x13, kind('TABLE_DUMP', 'stream')],
  [0x15, kind('REGISTER_SLAVE', 'one', 2)],
  [0x16, kind('STMT_PREPARE', 'prepared', 2)],
  [0x17, kind('STMT_EXECUTE', 'results', 10)],
  [0x18, kind('STMT_SEND_LONG_DATA', 'none', 7)],
  [0x19, kind('STMT_CLOSE', 'none', 5, true)],
  [0x1a, kind('STMT_RESET', 'one', 5, true)],
  [0x1b, kind('SET_OPTION', 'one', 3, true)],
  [0x1c, kind('STMT_FETCH', 'rows', 9, true)],
  [0x1e, kind('BINLOG_DUMP_GTID', 'stream')],
  [0x1f, alone('RESET_CONNECTION', 'one')],
  [0x20, kind('CLONE', 'stream')],
  [0xfa, kind('STMT_BULK_EXECUTE', 'results', 7)],
]);
/** The server knows no such command, and says so. */
const UNKNOWN = kind('<other>', 'one');

export function kindOf(byte: number): Kind {
  return KINDS.get(byte) ?? UNKNOWN;
}

const HEAD = 4;
/** A record of TLS that carries data; read as a head it says a length. */
const TLS_DATA = [0x17, 3, 3];

/** Whether these bytes may be a command that is answered, on a connection of which nothing is known. */
export function mayBegin(bytes: Uint8Array): boolean {
  if (bytes.length <= HEAD || bytes[3] !== 0) return false;
  if (TLS_DATA.every((byte, i) => byte === bytes[i])) return false;
  const length = bytes[0]! + bytes[1]! * 256 + bytes[2]! * 65_536;
  const known = KINDS.get(bytes[HEAD]!);
  if (known === undefined || known.form === 'none' || known.form === 'stream') return false;
  return known.exact ? length === known.length : length >= known.length;
}
