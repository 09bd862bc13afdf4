// Packets of MySQL for tests, as text of one byte a letter: independent of the reader that they test.

export function packet(sequence: number, body: string): string {
  return bytes(3, body.length) + String.fromCharCode(sequence & 255) + body;
}

/** Packets one after the other, numbered from `first` on. */
export function packets(first: number, ...bodies: readonly string[]): string {
  return bodies.map((body, i) => packet(first + i, body)).join('');
}

/** A number in so many bytes, the lowest first. */
export function bytes(length: number, number: number): string {
  return Array.from({ length }, (_, i) =>
    String.fromCharCode(Math.floor(number / 256 ** i) % 256),
  ).join('');
}

export function command(code: number, rest = ''): string {
  return packet(0, String.fromCharCode(code) + rest);
}

export const query = (sql: string): string => command(3, sql);
export const prepare = (sql: string): string => command(0x16, sql);
/** Of a statement without parameters. */
export const execute = (statement: number, cursor = 0): string =>
  command(0x17, bytes(4, statement) + bytes(1, cursor) + bytes(4, 1));

/** Abilities. */
export const [COMPRESS, PROTOCOL_41, SSL, DEPRECATE_EOF] = [1 << 5, 1 << 9, 1 << 11, 1 << 24];
const NATIVE_PASSWORD = (1 << 15) | (1 << 19);
const MULTI = (1 << 16) | (1 << 17) | (1 << 18);
const LOGIN_HEAD_REST = '\0'.repeat(23);

/** A user without a password, who can all that the reader of the test's answers can. */
export function login(user: string, abilities = 0): string {
  const can = PROTOCOL_41 | NATIVE_PASSWORD | MULTI | abilities;
  const head = bytes(4, can) + bytes(4, 1 << 24) + bytes(1, 45) + LOGIN_HEAD_REST;
  return packet(1, `${head}${user}\0\0mysql_native_password\0`);
}
