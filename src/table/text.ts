// Tables on a terminal: aligned, numbers to the right, cut to the width that there is. The texts come from other
// people's processes: nothing that a terminal would obey gets through.

import type { Unit } from './definition.ts';
import { formatValue } from './units.ts';

export interface TextColumn {
  readonly name: string;
  readonly unit?: Unit;
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
  const right = columns.map(({ unit }, i) => rows.every((row) => isNumber(row[i], unit)));
  const natural = heads.map((head, i) =>
    texts.reduce((width, row) => Math.max(width, textWidth(row[i]!)), textWidth(head)),
  );
  const widths = fitWidths(natural, right, options.width);
  const line = (cells: readonly string[]): string => {
    const parts = cells.map((text, i) => pad(text, widths[i]!, right[i]!));
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

/** Takes from the widest column of text until the line fits, but leaves each so much that it says something. */
function fitWidths(
  natural: readonly number[],
  fixed: readonly boolean[],
  limit: number | undefined,
): readonly number[] {
  const widths = [...natural];
  if (limit === undefined) return widths;
  const gaps = GAP.length * Math.max(0, widths.length - 1);
  let over = widths.reduce((sum, width) => sum + width, gaps) - limit;
  while (over > 0) {
    let widest = -1;
    for (const [i, width] of widths.entries()) {
      if (!fixed[i] && width > COLUMN_WIDTH_MIN && width > (widths[widest] ?? 0)) widest = i;
    }
    if (widest < 0) break;
    widths[widest]! -= 1;
    over -= 1;
  }
  return widths;
}

function pad(text: string, width: number, right: boolean): string {
  const fitting = cut(text, width);
  const space = ' '.repeat(Math.max(0, width - textWidth(fitting)));
  return right ? space + fitting : fitting + space;
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
