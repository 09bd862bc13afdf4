// What a benchmark yields: figures with a median and its spread, and how they print.

export interface Figure {
  readonly name: string;
  /** The median where there are several samples. */
  readonly value: number;
  readonly unit: string;
  /** Least and greatest sample. */
  readonly low?: number;
  readonly high?: number;
  /** How many samples. */
  readonly samples?: number;
  /** What a reader must know to take it right. */
  readonly note?: string;
}

export interface RunOptions {
  /** Few and short turns: shows that all works, measures little. */
  readonly quick?: boolean;
}

export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The median of samples, with their least and greatest. */
export function figure(
  name: string,
  unit: string,
  samples: readonly number[],
  note?: string,
): Figure {
  return {
    name,
    value: median(samples),
    unit,
    ...(samples.length > 1 && {
      low: Math.min(...samples),
      high: Math.max(...samples),
      samples: samples.length,
    }),
    ...(note !== undefined && { note }),
  };
}

/** The middle half of the samples: single slices are disturbed by whatever the machine does. */
export function quartiles(name: string, unit: string, samples: readonly number[]): Figure {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.slice(sorted.length >> 2, sorted.length - (sorted.length >> 2));
  const { low = Number.NaN, high = Number.NaN } = figure(name, unit, middle);
  const whole = figure(name, unit, samples);
  return { ...whole, low, high, note: 'min and max are quartiles' };
}

/** The ratio of each pair: what the second has of the first. */
export function ratios(without: readonly number[], with_: readonly number[]): number[] {
  return without.map((base, i) => with_[i]! / base);
}

export function differences(without: readonly number[], with_: readonly number[]): number[] {
  return without.map((base, i) => with_[i]! - base);
}

const HEADS = ['figure', 'median', 'unit', 'min', 'max', 'n', 'note'] as const;
const NUMBERS: ReadonlySet<string> = new Set(['median', 'min', 'max', 'n']);

/** Lines of an aligned table, a head first; numbers to the right. */
export function formatFigures(figures: readonly Figure[]): string {
  const rows = figures.map(({ name, value, unit, low, high, samples, note }) => [
    ...[name, short(value), unit, short(low), short(high)],
    ...[samples === undefined ? '' : String(samples), note ?? ''],
  ]);
  const table = [HEADS, ...rows];
  const widths = HEADS.map((_, i) => Math.max(...table.map((row) => row[i]!.length)));
  const cell = (text: string, i: number): string =>
    NUMBERS.has(HEADS[i]!) ? text.padStart(widths[i]!) : text.padEnd(widths[i]!);
  return table.map((row) => row.map(cell).join('  ').trimEnd()).join('\n');
}

export function printFigures(figures: readonly Figure[]): void {
  process.stdout.write(`${formatFigures(figures)}\n`);
}

/** Three or four digits that count: more would pretend to a precision that no run has. */
function short(value: number | undefined): string {
  if (value === undefined) return '';
  if (!Number.isFinite(value)) return '-';
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString('en');
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 3);
}
