// A table with one column of each kind, for the tests of this folder.

import { defineTable } from './definition.ts';

export const sampleTable = defineTable({
  name: 'sample',
  help: 'One column of each kind',
  kind: 'fold',
  rows_max: 1000,
  dimensions: [
    { name: 'text', type: 'string', help: 'Any text' },
    { name: 'side', type: 'string', help: 'A closed set', values: ['client', 'server'] },
    { name: 'tiny', type: 'u8', help: 'One byte' },
    { name: 'port', type: 'u16', help: 'Two bytes' },
    { name: 'address', type: 'u32', help: 'Four bytes' },
    { name: 'code', type: 'i32', help: 'Four bytes, signed' },
    { name: 'cgroup', type: 'u64', help: 'Eight bytes' },
  ],
  measures: [
    { name: 'bytes', type: 'u64', unit: 'By', fold: 'sum', help: 'Whole sum' },
    { name: 'seconds', type: 'f64', unit: 's', fold: 'sum', help: 'Real sum' },
    { name: 'least', type: 'u64', unit: 'us', fold: 'min', help: 'Least' },
    { name: 'most', type: 'u64', unit: 'us', fold: 'max', help: 'Greatest' },
    { name: 'state', type: 'f64', unit: '1', fold: 'last', help: 'Last' },
    { name: 'rtt', type: 'f64', unit: 'us', fold: 'mean', weight: 'bytes', help: 'Weighted mean' },
    { name: 'latency', type: 'u64', unit: 'ns', fold: 'histogram', help: 'Distribution' },
    { name: 'size', type: 'f64', unit: 'By', fold: 'histogram', scale: 1, help: 'Coarser' },
  ],
});

export const sampleEvents = defineTable({ ...sampleTable, name: 'sample_event', kind: 'event' });
