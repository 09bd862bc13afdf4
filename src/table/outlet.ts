// What captured messages go by: the options of capture, and the way out that a decoder is given.

/** Which traffic is captured whole, how much of it, and what is taken out of it: the section `collector.capture`. */
export interface CaptureOptions {
  readonly mode: 'ingress' | 'egress' | 'all';
  readonly capture_all_namespaces: boolean;
  /** Pages of 4 KiB of the ring that may wait before capture leaves it to the others. */
  readonly perfmap_queue_size: number;
  /** Chunks that may wait for missing ones before them. */
  readonly probe_event_queue_size: number;
  readonly message_bytes_max: number;
  readonly redact_headers: readonly string[];
  readonly redact_keys: readonly string[];
  readonly redact_patterns: readonly string[];
}

/** Where whole messages leave by, a line each. */
export interface LineOutlet {
  /** False: it is dropped, and counted, since too much waits for the reader. Never waits itself. */
  send(line: string): boolean;
  readonly counts: OutletCounts;
}

export interface OutletCounts {
  /** `seen = sent + dropped + waiting` at any time. */
  readonly seen: number;
  /** Handed to the reader's socket. */
  readonly sent: number;
  readonly dropped: Readonly<Record<string, number>>;
  readonly waiting: number;
}
