// Messages of PostgreSQL for tests, as text of one byte a letter: independent of the reader that they test.

export function message(type: string, body: string): string {
  return type + bytesOf(body.length + 4) + body;
}

/** Numbers of four bytes, the highest first. */
export function bytesOf(...numbers: readonly number[]): string {
  const bytes = Buffer.alloc(numbers.length * 4);
  for (const [i, number] of numbers.entries()) bytes.writeUInt32BE(number, i * 4);
  return bytes.toString('latin1');
}

export function query(sql: string): string {
  return message('Q', `${sql}\0`);
}

export function startup(user: string): string {
  const body = `user\0${user}\0database\0postgres\0\0`;
  return bytesOf(body.length + 8, 3 << 16) + body;
}
