// Some rows of a batch as a batch of its own.

import {
  type Batch,
  type DimensionColumn,
  isHistogramColumn,
  isStringColumn,
  type MeasureColumn,
} from './columns.ts';

/** `rows`: their numbers, ascending. */
export function selectRows(batch: Batch, rows: Int32Array): Batch {
  return {
    definition: batch.definition,
    rows: rows.length,
    times_ms: Float64Array.from(rows, (row) => batch.times_ms[row]!),
    dimensions: batch.dimensions.map((column) => selectDimension(column, rows)),
    measures: batch.measures.map((column) => selectMeasure(column, rows)),
  };
}

/** A dictionary holds only strings that occur: those of the rows that are left out go. */
function selectDimension(column: DimensionColumn, rows: Int32Array): DimensionColumn {
  if (!isStringColumn(column)) {
    const values = column.values.slice(0, rows.length);
    for (const [i, row] of rows.entries()) values[i] = column.values[row]!;
    return { values };
  }
  const numbers = new Map<number, number>();
  const ids = Int32Array.from(rows, (row) => {
    const id = column.ids[row]!;
    const known = numbers.get(id) ?? numbers.size;
    numbers.set(id, known);
    return known;
  });
  return { ids, dictionary: [...numbers.keys()].map((id) => column.dictionary[id]!) };
}

function selectMeasure(column: MeasureColumn, rows: Int32Array): MeasureColumn {
  if (!isHistogramColumn(column)) {
    return { values: Float64Array.from(rows, (row) => column.values[row]!) };
  }
  const offsets = new Int32Array(rows.length + 1);
  const buckets: number[] = [];
  const counts: number[] = [];
  for (const [i, row] of rows.entries()) {
    for (let at = column.offsets[row]!; at < column.offsets[row + 1]!; at += 1) {
      buckets.push(column.buckets[at]!);
      counts.push(column.counts[at]!);
    }
    offsets[i + 1] = buckets.length;
  }
  return {
    scale: column.scale,
    offsets,
    buckets: Int32Array.from(buckets),
    counts: Float64Array.from(counts),
    sums: Float64Array.from(rows, (row) => column.sums[row]!),
  };
}
