// Tables on a terminal: aligned, numbers to the right, cut to the width that there is. The texts come from other
// people's processes: nothing that a terminal would obey gets through.

import type { Unit } from './definition.ts';
import { formatValue } from './units.ts';

export interface TextColumn {
  readonly name: string;
  readonly unit?: Unit;
  /** Where there is too little room, columns with a rank are left out, the lowest first; without one it stays. */
  readonly rank?: number;
  /** Of a text: what it takes to say something; below this, columns with a rank go first. */
  readonly width_min?: number;
  /** What gives way of a text that is too long: its end, or its middle, for an address whose port tells more. */
  readonly cut?: 'end' | 'middle';
}

export type TextCell = string | number | bigint | boolean | Date | null | undefined;

export interface TextOptions {
  /** Columns of the terminal; absent: as wide as it takes. */
  readonly width?: number;
  /** The head in bold. Off unless asked for. */
  readonly color?: boolean;
}

const GAP = '  ';
const COLUMN_WIDTH_MIN = 8;
/** Signs at the end that a cut in the middle leaves: `:65535`. */
const TAIL = 6;
const BOLD = '\u001b[1m';
const PLAIN = '\u001b[0m';
// Control characters and those that turn the direction of writing; both can make a screen lie.
const UNSAFE = /[\p{Cc}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;
const COMBINING = /^\p{M}$/u;
const WIDE = new RegExp(
  '^[\\u1100-\\u115f\\u2e80-\\u303e\\u3041-\\ua4cf\\uac00-\\ud7a3\\uf900-\\ufaff\\ufe30-\\ufe6f' +
    '\\uff00-\\uff60\\uffe0-\\uffe6\\u{1f300}-\\u{1faff}\\u{20000}-\\u{3fffd}]$',
  'u',
);
const ASCII = /^[ -~]*$/;

/** Lines of a table with a head, without a newline at the end. Missing cells (null, NaN) are a dash. */
export function formatTable(
  columns: readonly TextColumn[],
  rows: readonly (readonly TextCell[])[],
  options: TextOptions = {},
): string {
  const heads = columns.map(({ name }) => safe(name));
  const texts = rows.map((row) => columns.map(({ unit }, i) => cellText(row[i], unit)));
  const all = columns.map((column, i): Shape => {
    const natural = texts.reduce(
      (width, row) => Math.max(width, textWidth(row[i]!)),
      textWidth(heads[i]!),
    );
    const right = rows.every((row) => isNumber(row[i], column.unit));
    const width_min = right ? natural : Math.min(natural, column.width_min ?? COLUMN_WIDTH_MIN);
    return { ...column, i, natural, right, width_min };
  });
  const shown = options.width === undefined ? all : withinWidth(all, options.width);
  const widths = fitWidths(shown, options.width);
  const line = (cells: readonly string[]): string => {
    const parts = shown.map((shape, at) => pad(cells[shape.i]!, widths[at]!, shape));
    const whole = parts.join(GAP).trimEnd();
    return options.width === undefined ? whole : cut(whole, options.width);
  };
  const head = line(heads);
  return [options.color === true ? BOLD + head + PLAIN : head, ...texts.map(line)].join('\n');
}

/** Columns that a text takes on a terminal: East Asian signs and pictures take two, combining marks none. */
export function textWidth(text: string): number {
  if (ASCII.test(text)) return text.length;
  let width = 0;
  for (const sign of text) width += signWidth(sign);
  return width;
}

function signWidth(sign: string): number {
  if (COMBINING.test(sign)) return 0;
  return WIDE.test(sign) ? 2 : 1;
}

function cellText(cell: TextCell, unit: Unit | undefined): string {
  if (cell === null || cell === undefined) return '-';
  if (cell instanceof Date) return Number.isNaN(cell.getTime()) ? '-' : cell.toISOString();
  const value = numberOf(cell, unit);
  if (value === undefined) return safe(String(cell));
  // A count beyond 2^53 keeps all its digits.
  return unit === undefined && typeof cell === 'bigint' ? String(cell) : formatValue(value, unit);
}

/** Stores send whole numbers of 64 bits as strings: in a column with a unit those are numbers. */
function numberOf(cell: TextCell, unit: Unit | undefined): number | undefined {
  if (typeof cell === 'number') return cell;
  if (typeof cell === 'bigint') return Number(cell);
  if (typeof cell !== 'string' || unit === undefined || cell.trim() === '') return undefined;
  const value = Number(cell);
  return Number.isNaN(value) ? undefined : value;
}

function isNumber(cell: TextCell, unit: Unit | undefined): boolean {
  return cell === null || cell === undefined || numberOf(cell, unit) !== undefined;
}

/** Lines of any text, as a terminal may show them. */
export function safeLines(text: string): string {
  return text.replace(UNSAFE, (sign) => (sign === '\n' ? sign : '\ufffd'));
}

function safe(text: string): string {
  return text.replace(UNSAFE, '\ufffd');
}

/** A column as the rows made it. */
interface Shape extends TextColumn {
  readonly i: number;
  readonly natural: number;
  readonly right: boolean;
  readonly width_min: number;
}

function lineWidth(widths: readonly number[]): number {
  const gaps = GAP.length * Math.max(0, widths.length - 1);
  return widths.reduce((sum, width) => sum + width, gaps);
}

/** Leaves out columns, by rank, until the others have what they need. */
function withinWidth(shapes: readonly Shape[], limit: number): readonly Shape[] {
  const last = shapes
    .filter(({ rank }) => rank !== undefined)
    .toSorted((a, b) => (a.rank ?? 0) - (b.rank ?? 0));
  let shown = shapes;
  for (const shape of last) {
    if (lineWidth(shown.map(({ width_min }) => width_min)) <= limit) break;
    shown = shown.filter((one) => one !== shape);
  }
  return shown;
}

/** Takes from the widest column of text until the line fits, but leaves each so much that it says something. */
function fitWidths(shapes: readonly Shape[], limit: number | undefined): readonly number[] {
  const widths = shapes.map(({ natural }) => natural);
  if (limit === undefined) return widths;
  let over = lineWidth(widths) - limit;
  for (const leastOf of [({ width_min }: Shape) => width_min, () => COLUMN_WIDTH_MIN]) {
    while (over > 0) {
      let widest = -1;
      for (const [at, shape] of shapes.entries()) {
        const width = widths[at]!;
        if (shape.right || width <= leastOf(shape)) continue;
        if (width > (widths[widest] ?? 0)) widest = at;
      }
      if (widest < 0) break;
      widths[widest]! -= 1;
      over -= 1;
    }
  }
  return widths;
}

function pad(text: string, width: number, { right, cut: where = 'end' }: Shape): string {
  const fitting = where === 'middle' ? cutMiddle(text, width) : cut(text, width);
  const space = ' '.repeat(Math.max(0, width - textWidth(fitting)));
  return right ? space + fitting : fitting + space;
}

/** One line of other people's words, as wide as there is room for. */
export function fitLine(text: string, width: number): string {
  return cut(safe(text), width);
}

function cutMiddle(text: string, width: number): string {
  const signs = [...text];
  if (textWidth(text) <= width) return text;
  const tail = signs.slice(-Math.min(TAIL, Math.max(0, width - 2))).join('');
  const room = width - textWidth(tail);
  return room < 2 ? cut(text, width) : cut(text, room) + tail;
}

function cut(text: string, width: number): string {
  if (textWidth(text) <= width) return text;
  if (width < 1) return '';
  let kept = '';
  let taken = 1;
  for (const sign of text) {
    taken += signWidth(sign);
    if (taken > width) break;
    kept += sign;
  }
  return `${kept}…`;
}
