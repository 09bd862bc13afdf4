// The addon, typed and loaded at first use, so that the readers of ELF and BTF work without it.
// The other half is native/*.c: names and arguments are the same.
import { createRequire } from 'node:module';
import { BpfError, makeError } from './error.ts';

declare const handleKind: unique symbol;
/** A native resource; what it owns is freed by `close`, or with the last reference to it. */
export interface Handle<Kind extends string = string> {
  readonly [handleKind]: Kind;
}
export type ObjectHandle = Handle<'object'>;
export type MapHandle = Handle<'map'>;
export type ProgramHandle = Handle<'program'>;
export type LinkHandle = Handle<'link'>;
export type RingHandle = Handle<'ring'>;
export type FdHandle = Handle<'fd'>;

export interface NativeMapDeclaration {
  readonly name: string;
  readonly type: number;
  readonly typeName: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly internal: boolean;
}

export interface NativeProgramDeclaration {
  readonly name: string;
  readonly section: string;
  readonly type: number;
  readonly typeName: string;
  readonly autoload: boolean;
}

export interface NativeMapInfo {
  readonly id: number;
  readonly name: string;
  readonly type: number;
  readonly typeName: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly valueStride: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly perCpu: boolean;
}

export interface NativeProgramInfo {
  readonly id: number;
  readonly name: string;
  readonly type: number;
  readonly typeName: string;
  readonly tag: string;
  readonly instructions: number;
  readonly verifiedInstructions: number;
  readonly runCount: number;
  readonly runTimeNs: number;
  readonly recursionMisses: number;
}

export interface NativeLinkInfo {
  readonly id: number;
  readonly type: number;
  readonly typeName: string;
  readonly programId: number;
}

export interface NativeRead {
  readonly bytes: number;
  readonly records: number;
  readonly discarded: number;
  readonly cursor: number;
}

type Text = string | null;

export interface Native {
  close(handle: Handle): void;
  fd(handle: Handle): number;
  setErrorFactory(factory: typeof makeError): void;
  libbpfVersion(): string;

  objectOpen(bytes: Uint8Array, name: Text, pinRoot: Text, btfPath: Text): ObjectHandle;
  objectMaps(object: ObjectHandle): NativeMapDeclaration[];
  objectPrograms(object: ObjectHandle): NativeProgramDeclaration[];
  objectSetMap(object: ObjectHandle, map: number, what: MapSetting, value: number): void;
  objectReuseMap(object: ObjectHandle, map: number, fd: number): void;
  objectPinPath(object: ObjectHandle, map: number, path: Text): void;
  objectSetInitial(object: ObjectHandle, map: number, offset: number, bytes: Uint8Array): void;
  objectSetAutoload(object: ObjectHandle, program: number, flag: boolean): void;
  objectLoad(object: ObjectHandle): void;
  objectMap(object: ObjectHandle, map: number): MapHandle | undefined;
  objectProgram(object: ObjectHandle, program: number): ProgramHandle | undefined;

  attachAuto(object: ObjectHandle, program: number): LinkHandle;
  attachPath(o: ObjectHandle, program: number, kind: 'cgroup' | 'netns', path: string): LinkHandle;
  attachXdp(object: ObjectHandle, program: number, interfaceIndex: number): LinkHandle;
  attachIter(object: ObjectHandle, program: number, mapFd: number): LinkHandle;
  attachUprobe(
    object: ObjectHandle,
    program: number,
    path: string,
    symbol: Text,
    offset: number,
    pid: number,
    ret: boolean,
  ): LinkHandle;
  attachUsdt(
    object: ObjectHandle,
    program: number,
    path: string,
    provider: string,
    name: string,
    pid: number,
  ): LinkHandle;
  attachNamed(
    object: ObjectHandle,
    program: number,
    kind: 'kprobe' | 'kretprobe' | 'raw' | 'tracepoint',
    name: string,
    category: Text,
  ): LinkHandle;
  attachPerf(
    object: ObjectHandle,
    program: number,
    type: number,
    config: number,
    sample: number,
    byFrequency: boolean,
    pid: number,
    cpu: number,
  ): LinkHandle;

  mapFromFd(fd: number): MapHandle;
  mapInfo(map: MapHandle): NativeMapInfo;
  mapLookup(map: MapHandle, key: Uint8Array, out: Uint8Array, flags: number): boolean;
  mapUpdate(map: MapHandle, key: Uint8Array, value: Uint8Array, flags: number): void;
  mapDelete(map: MapHandle, key: Uint8Array): boolean;
  mapTake(map: MapHandle, key: Uint8Array, out: Uint8Array): boolean;
  mapNextKey(map: MapHandle, key: Uint8Array | null, out: Uint8Array): boolean;
  /** Entries, or −1 − entries where the buffers were too small. */
  mapBatch(
    map: MapHandle,
    keys: Uint8Array,
    values: Uint8Array,
    drain: boolean,
    walk: boolean,
  ): number;

  openPinned(path: string, kind: 'map'): MapHandle;
  openPinned(path: string, kind: 'prog'): ProgramHandle;
  openPinned(path: string, kind: 'link'): LinkHandle;
  pin(handle: MapHandle | ProgramHandle | LinkHandle, path: string): void;
  linkSetPinned(link: LinkHandle, pinned: boolean): void;
  linkInfo(link: LinkHandle): NativeLinkInfo;
  programInfo(program: ProgramHandle): NativeProgramInfo;
  programRun(
    program: ProgramHandle,
    input: Uint8Array | null,
    output: Uint8Array | null,
    context: Uint8Array | null,
    repeat: number,
  ): { result: number; durationNs: number; bytes: number };
  programPrepare(type: number, config: number, path: string, offset: number): LinkHandle;
  programStart(program: ProgramHandle, link: LinkHandle): void;
  iterOpen(link: LinkHandle): FdHandle;
  iterRead(pass: FdHandle, into: Uint8Array): number;

  ringOpen(fd: number, size: number, wakerFd: number): RingHandle;
  ringRead(ring: RingHandle, cursor: number, into: Uint8Array): NativeRead;
  ringCommit(ring: RingHandle, cursor: number): void;
  ringPosition(ring: RingHandle, ofProducer: boolean): number;
  /** 0: time is up, 1: data or wake-up, 2: waker. */
  ringWait(ring: RingHandle, timeoutMs: number, forWakeup: boolean): 0 | 1 | 2;

  statsEnable(): FdHandle;
  wakerOpen(fd: number): FdHandle;
  wakerWake(waker: FdHandle): void;
  /** 1: yes, 0: no, −errno: unknown. */
  probe(kind: 'program' | 'map' | 'helper', type: string, helper: Text): number;
  raiseMemlock(): boolean;
  possibleCpus(): number;
  memoryTrim(): void;
  programsWait(): boolean;

  netlinkOpen(
    netns: Text,
    protocol: number,
    groups: number,
    roomBytes: number,
    filter: Uint8Array,
  ): FdHandle;
  netlinkSend(socket: FdHandle, message: Uint8Array): void;
  /** Bytes; 0: nothing waits; −1: messages found no room. */
  netlinkReceive(socket: FdHandle, into: Uint8Array): number;
}

export type MapSetting = 'maxEntries' | 'flags' | 'valueSize' | 'autocreate';

/** Where build-native.ts puts the addon. */
export const ADDON_URL = new URL('../../build/sonde_bpf.node', import.meta.url);

let loaded: Native | undefined;

/**
 * The addon.
 *
 * @throws {BpfError} `EADDON` when it is not built, or cannot be loaded here (libbpf missing, other platform).
 */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

function load(): Native {
  try {
    // The shape is what native/*.c registers; a test calls each function.
    const addon = createRequire(import.meta.url)(ADDON_URL.pathname) as Native;
    addon.setErrorFactory(makeError);
    return addon;
  } catch (error) {
    throw new BpfError('Cannot load the native addon, build it first', {
      code: 'EADDON',
      log: error instanceof Error ? error.message : String(error),
    });
  }
}
