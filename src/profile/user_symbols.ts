// Functions of processes: which file is mapped at an address, and what stands there. A process is looked at while it runs; of one
// that was gone before, the frames keep their addresses.

import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { elfFunctions } from './elf_functions.ts';
import { SymbolTable } from './symbol_table.ts';

const FILE_BYTES_MAX = 512 << 20;
const FILES_MAX = 1024;
const PROCESSES_MAX = 8192;
const MAPPING = /^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) (\S+) (\d+) +(.*)$/;
/** What programs that translate as they run write for perf: address, size, name. */
const JIT_LINE = /^([0-9a-f]+) ([0-9a-f]+) (.+)$/;

interface Mapping {
  readonly begin: number;
  readonly end: number;
  /** Of `begin` in the file. */
  readonly offset: number;
  /** Device and inode: the same file in any mount namespace. */
  readonly file: string;
  readonly path: string;
}

interface Process {
  readonly mappings: readonly Mapping[];
  readonly jit: SymbolTable;
}

export class UserSymbols {
  readonly #proc: string;
  readonly #processes = new Map<number, Process>();
  readonly #files = new Map<string, SymbolTable>();

  constructor(proc = '/proc') {
    this.#proc = proc;
  }

  /** Looks at processes that were not known; to be called while they run. */
  learn(pids: Iterable<number>): void {
    for (const pid of pids) {
      if (this.#processes.has(pid) || this.#processes.size >= PROCESSES_MAX) continue;
      const mappings = parseMaps(readText(`${this.#proc}/${pid}/maps`));
      if (mappings.length === 0) continue; // gone, or a thread of the kernel
      this.#processes.set(pid, { mappings, jit: this.#readJit(pid) });
      for (const mapping of mappings) this.#readFile(pid, mapping);
    }
  }

  /** `function`, `[file]`, or the address. */
  name(pid: number, address: number): string {
    const found = this.#processes.get(pid);
    const mapping = found?.mappings.find(({ begin, end }) => address >= begin && address < end);
    const place = `0x${address.toString(16)}`;
    if (found === undefined) return place;
    const jit = found.jit.find(address);
    if (jit !== undefined) return jit;
    if (mapping === undefined) return place;
    const name = this.#files.get(mapping.file)?.find(address - mapping.begin + mapping.offset);
    return name ?? `[${basename(mapping.path) || 'anonymous'}]`;
  }

  #readFile(pid: number, { file, path }: Mapping): void {
    if (!path.startsWith('/') || this.#files.has(file) || this.#files.size >= FILES_MAX) return;
    const clean = path.replace(/ \(deleted\)$/, '');
    const bytes = readBytes(`${this.#proc}/${pid}/root${clean}`);
    this.#files.set(file, bytes === undefined ? new SymbolTable() : elfFunctions(bytes));
  }

  #readJit(pid: number): SymbolTable {
    const table = new SymbolTable();
    const status = readText(`${this.#proc}/${pid}/status`);
    const inner = /^NSpid:.*\t(\d+)$/m.exec(status)?.[1] ?? pid;
    const text = readText(`${this.#proc}/${pid}/root/tmp/perf-${inner}.map`);
    for (const line of text.split('\n')) {
      const [, address = '', size = '', name] = JIT_LINE.exec(line) ?? [];
      if (name === undefined) continue;
      table.add(Number.parseInt(address, 16), Number.parseInt(size, 16), name);
    }
    return table;
  }
}

/** Mappings that are executed. Text of /proc/PID/maps. */
export function parseMaps(text: string): readonly Mapping[] {
  return text.split('\n').flatMap((line) => {
    const [, begin = '', end = '', offset = '', device, inode, path = ''] =
      MAPPING.exec(line) ?? [];
    if (device === undefined) return [];
    const numbers = [begin, end, offset].map((digits) => Number.parseInt(digits, 16));
    const [from = 0, to = 0, at = 0] = numbers;
    return [{ begin: from, end: to, offset: at, file: `${device} ${inode}`, path }];
  });
}

function readText(path: string): string {
  return readBytes(path)?.toString('utf8') ?? '';
}

/** Undefined: not there, no file, or too large. A pipe in its place would block: it stands where a container can write. */
function readBytes(path: string): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    const stat = fstatSync(fd);
    return stat.isFile() && stat.size <= FILE_BYTES_MAX ? readFileSync(fd) : undefined;
  } catch {
    return undefined; // gone while it was read
  } finally {
    closeSync(fd);
  }
}
