// The section `collector.capture`: whole HTTP messages of selected processes.

import * as z from 'zod';
import {
  bool,
  choice,
  count,
  key,
  linearPatterns,
  list,
  numbers,
  optionalKey,
  path,
  size,
} from './leaf.ts';

/** The keys of the first group have the names that operators of such tracers know. */
export const capture = z.strictObject({
  log_level: key(choice(['trace', 'debug', 'info', 'warn', 'error', 'fatal']), 'info', {
    help: 'Severity of the statistics lines of capture',
  }),
  proc_fs_path: optionalKey(path, {
    help: 'procfs in which selected processes are looked up; default: that of host_dir',
  }),
  unix_domain_socket_addr: optionalKey(path, {
    help: 'Unix socket of the program that reads what is captured; without it only the catalogue is filled',
  }),
  perfmap_queue_size: key(count(16, 262_144), 1024, {
    help: 'Pages of 4 KiB that may wait in the ring before captured bytes find no room, counted as EventLost',
  }),
  uds_event_queue_size: key(count(1, 10_000_000), 10_000, {
    help: 'Captured exchanges that wait for the reader; what comes then is dropped, counted',
  }),
  probe_event_queue_size: key(count(1, 10_000_000), 50_000, {
    help: 'Pieces that wait for missing ones before them; what comes then is dropped, counted',
  }),
  capture_all_namespaces: key(bool, false, { help: 'Capture of all processes' }),
  k8s_enabled: key(bool, false, {
    help: 'Select by labels and annotations of Kubernetes namespaces and pods: without effect so far, and says so; see pods',
  }),
  mode: key(choice(['ingress', 'egress', 'all']), 'ingress', {
    help: 'ingress: requests to what is selected, and its responses; egress: its own requests',
  }),
  max_active_ret_probe: key(count(1, 1_000_000), 1, {
    help: 'Accepted and without effect: sonde uses no return probes, so none can be missed',
  }),
  pids: key(numbers(1, 4_194_304), [], { help: 'Processes that are captured' }),
  cgroups: key(list('list of cgroup paths'), [], {
    help: 'cgroups that are captured, with those below: paths from the root of cgroup v2',
  }),
  pods: key(list('list of pod UIDs'), [], {
    help: 'Pods that are captured, by their UIDs (metadata.uid), wherever their cgroups are',
  }),
  message_bytes_max: key(size('1KiB', '16MiB'), '1MiB', {
    help: 'Bytes of a request, and of a response, that are captured; the rest is counted',
  }),
  uds_queue_bytes_max: key(size('1MiB', '4GB'), '64MiB', {
    help: 'Memory of the exchanges that wait for the reader',
  }),
  redact_headers: key(list(), [], {
    help: 'Headers whose values are taken out, beside authorization, cookies, keys and tokens',
  }),
  redact_keys: key(list(), [], {
    help: 'Keys in queries and bodies whose values are taken out, beside passwords, secrets and tokens',
  }),
  redact_patterns: key(linearPatterns, [], {
    help: 'What they match is taken out of headers, targets and bodies; without look-around and back-references',
  }),
});
