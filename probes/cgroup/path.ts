// What the path of a cgroup says about who runs in it: the container, and the pod of Kubernetes.

/**
 * 64 hex digits (Docker, containerd, CRI-O, Podman) as a path component or its core: `docker-<id>.scope`. The scope of what
 * watches a container (`libpod-conmon-<id>.scope`) is outside of it.
 */
const CONTAINER_IDS = /(?:^|[/:]|(?<!conmon)-)([0-9a-f]{64})(?:\.scope)?(?=\/|$)/g;

/**
 * `pod<uid>` (driver cgroupfs) or `…-pod<uid>.slice` (driver systemd, which cannot have a dash in a name and writes `_`). A
 * static pod has a hash of 32 digits instead. Under systemd without its driver the pod stands before the container:
 * `kubepods-burstable-pod<uid>.slice:cri-containerd:<id>`.
 */
const POD_UIDS =
  /(?:^|\/|-)pod([0-9a-f]{8}([-_])[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12}|[0-9a-f]{32})(?=\.slice|[/:]|$)/g;

/** The innermost container that a cgroup path names; '' for none. */
export function containerId(path: string): string {
  return [...path.matchAll(CONTAINER_IDS)].at(-1)?.[1] ?? '';
}

/** The innermost pod that a cgroup path names, its uid as the API writes it; '' for none. */
export function podUid(path: string): string {
  return [...path.matchAll(POD_UIDS)].at(-1)?.[1]?.replaceAll('_', '-') ?? '';
}
