// DNS messages for tests, written by hand: independent of the reader that they test.

export interface Made {
  readonly id?: number;
  readonly flags?: number;
  readonly questions?: readonly (readonly [name: string, type: number])[];
  readonly answers?: readonly Uint8Array[];
  readonly additional?: readonly Uint8Array[];
  /** Counts in the header, where they shall lie. */
  readonly counts?: readonly [number, number, number, number];
}

export const RESPONSE = 0x8180;
export const TRUNCATED = 0x0200;

export function message({ id = 7, flags = 0x0100, questions = [], ...rest }: Made): Uint8Array {
  const { answers = [], additional = [] } = rest;
  const counts = rest.counts ?? [questions.length, answers.length, 0, additional.length];
  return joined([
    u16(id),
    u16(flags),
    ...counts.map(u16),
    ...questions.flatMap(([text, type]) => [name(text), u16(type), u16(1)]),
    ...answers,
    ...additional,
  ]);
}

/** A record; `owner` and `data` are bytes. */
export function record(
  owner: Uint8Array,
  type: number,
  ttl: number,
  data: Uint8Array,
  class_ = 1,
): Uint8Array {
  const ttl_bytes = [u16(ttl >>> 16), u16(ttl & 0xffff)];
  return joined([owner, u16(type), u16(class_), ...ttl_bytes, u16(data.length), data]);
}

/** `a.b`: two labels and the root; '': the root alone. */
export function name(text: string): Uint8Array {
  const labels = text === '' ? [] : text.split('.');
  return joined([
    ...labels.map((label) => joined([Uint8Array.of(label.length), Buffer.from(label, 'latin1')])),
    Uint8Array.of(0),
  ]);
}

export function pointer(to: number): Uint8Array {
  return u16(0xc000 | to);
}

export function u16(value: number): Uint8Array {
  return Uint8Array.of((value >> 8) & 255, value & 255);
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
