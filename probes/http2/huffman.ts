// The Huffman code of HPACK (RFC 7541, appendix B), decoded four bits at a time by a table that is made once.

/**
 * Lengths of the codes of the bytes 0 to 255 and of the end mark, sixteen a row. The code is canonical: of equal lengths the
 * codes rise with the byte, so that the lengths say all.
 */
const LENGTHS: readonly number[] = [
  [13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28],
  [28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28],
  [6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6],
  [5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10],
  [13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
  [7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6],
  [15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5],
  [6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28],
  [20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23],
  [24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24],
  [22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23],
  [21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23],
  [26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25],
  [19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27],
  [20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23],
  [26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26],
  [30],
].flat();

const END = 256;
const LENGTH_MAX = 30;
const NONE = -1;
const FAIL = -1;
/** What remains of the last byte is of ones, and less than a byte. */
const PADDING_MAX = 7;

interface Tree {
  /** Two a node: the node that follows 0 and 1, or `-2 - byte` where a code ends. */
  readonly next: number[];
  /** The nodes on the way of ones alone, by depth. */
  readonly ones: readonly number[];
}

/** Codes as numbers, for the tests that hold them against the document. */
export function huffmanCodes(): readonly { readonly code: number; readonly length: number }[] {
  const codes: { code: number; length: number }[] = LENGTHS.map((length) => ({ code: 0, length }));
  let code = 0;
  for (let length = 1; length <= LENGTH_MAX; length += 1) {
    for (const one of codes) {
      if (one.length !== length) continue;
      one.code = code;
      code += 1;
    }
    code *= 2;
  }
  return codes;
}

function makeTree(): Tree {
  const next = [0, 0];
  for (const [byte, { code, length }] of huffmanCodes().entries()) {
    let node = 0;
    for (let bit = length - 1; bit > 0; bit -= 1) {
      const at = 2 * node + ((code >> bit) & 1);
      if (next[at] === 0) {
        next[at] = next.length / 2;
        next.push(0, 0);
      }
      node = next[at]!;
    }
    next[2 * node + (code & 1)] = -2 - byte;
  }
  const ones = [0];
  while (ones.length <= PADDING_MAX) ones.push(next[2 * ones[ones.length - 1]! + 1]!);
  return { next, ones };
}

const TREE = makeTree();
const NODES = TREE.next.length / 2;
/** By node and four bits: the node after them (FAIL: the end mark), and the byte that was completed (NONE: none). */
const AFTER = new Int16Array(16 * NODES);
const BYTE = new Int16Array(16 * NODES).fill(NONE);
/** Nodes where a string may end. */
const MAY_END = new Uint8Array(NODES);

for (let node = 0; node < NODES; node += 1) {
  for (let bits = 0; bits < 16; bits += 1) {
    let at = node;
    for (let bit = 3; bit >= 0 && at !== FAIL; bit -= 1) {
      const next = TREE.next[2 * at + ((bits >> bit) & 1)]!;
      if (next >= 0) at = next;
      else if (next === -2 - END) at = FAIL;
      else {
        BYTE[16 * node + bits] = -2 - next;
        at = 0;
      }
    }
    AFTER[16 * node + bits] = at;
  }
}
for (const node of TREE.ones) MAY_END[node] = 1;

/**
 * Decodes `bytes[from, to)` into `out` as far as it has room. The length of the decoded string, which may be more than
 * `out` holds; -1: it is no such string.
 */
export function huffmanDecode(
  bytes: Uint8Array,
  from: number,
  to: number,
  out: Uint8Array,
): number {
  let node = 0;
  let length = 0;
  for (let i = from; i < to; i += 1) {
    const byte = bytes[i]!;
    for (let shift = 4; shift >= 0; shift -= 4) {
      const at = 16 * node + ((byte >> shift) & 15);
      node = AFTER[at]!;
      if (node === FAIL) return FAIL;
      const done = BYTE[at]!;
      if (done === NONE) continue;
      if (length < out.length) out[length] = done;
      length += 1;
    }
  }
  return MAY_END[node] === 1 ? length : FAIL;
}
