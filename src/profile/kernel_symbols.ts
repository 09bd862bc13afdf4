// Functions of the kernel and its modules, from /proc/kallsyms. Without CAP_SYSLOG, or with kptr_restrict, it has no addresses.

import { readFileSync } from 'node:fs';
import { SymbolTable } from './symbol_table.ts';

const ADDRESS_DIGITS = 12; // of 16: the 48 bits that say something
const LINE = /^([0-9a-f]{16}) [tTwW] (\S+)(?:\t\[(\S+)\])?$/;

export function kernelSymbols(text: string = readKallsyms()): SymbolTable {
  const table = new SymbolTable();
  for (const line of text.split('\n')) {
    const [, address = '', name, module] = LINE.exec(line) ?? [];
    if (name === undefined || /^0+$/.test(address)) continue;
    const place = Number.parseInt(address.slice(-ADDRESS_DIGITS), 16);
    table.add(place, 0, module === undefined ? name : `${name} [${module}]`);
  }
  return table;
}

function readKallsyms(): string {
  try {
    return readFileSync('/proc/kallsyms', 'latin1');
  } catch {
    return ''; // not readable: frames keep their addresses
  }
}
