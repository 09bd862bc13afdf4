// Memory of this process outside of the JavaScript heap.
import { native } from './native.ts';

/**
 * Gives the kernel back what the C library holds free: libbpf reads the kernel's BTF into some 10 MB while it loads an
 * object, the compilers of V8 take several each time, and glibc keeps them. Takes some 0.3 ms where there is little.
 */
export function trimMemory(): void {
  native().memoryTrim();
}
