// What is asked of a kernel. Each question is one program of testdata/; `absent` names the tested kernels where the
// answer is known to be no. Every other kernel must say yes: the run fails where one differs, either way.

export interface Question {
  /** Name of the program. */
  readonly program: string;
  readonly file: 'trace' | 'lock' | 'cgroup' | 'iter';
  readonly asks: string;
  readonly absent?: readonly string[];
  /** Programs of the same file that must be there for this one to see anything. */
  readonly beside?: readonly string[];
  /** For an iterator over a map: the map. */
  readonly map?: string;
}

const old = ['5.10'];
const older = ['5.10', '6.1'];

function trace(program: string, asks: string, absent: readonly string[] = []): Question {
  return { program, file: 'trace', asks, absent };
}

function cgroup(program: string, asks: string, absent: readonly string[] = []): Question {
  return { program, file: 'cgroup', asks, absent };
}

function elements(program: string, asks: string, absent: readonly string[] = []): Question {
  return { program, file: 'iter', asks, absent, map: 'swept' };
}

function files(program: string, asks: string, absent: readonly string[] = []): Question {
  return { program, file: 'iter', asks, absent };
}

export const questions: readonly Question[] = [
  trace('set_state', 'tp_btf/inet_sock_set_state'),
  trace('send_length', 'tp_btf/sock_send_length', older),
  trace('recv_length', 'tp_btf/sock_recv_length', older),
  trace('rcv_space', 'tp_btf/tcp_rcv_space_adjust'),
  trace('receive_reset', 'tp_btf/tcp_receive_reset'),
  trace('send_reset', 'tp_btf/tcp_send_reset'),
  trace('destroy_sock', 'tp_btf/tcp_destroy_sock'),
  trace('drop_reason', 'tp_btf/kfree_skb with a reason', old),
  trace('process_exec', 'tp_btf/sched_process_exec'),
  trace('process_exit', 'tp_btf/sched_process_exit'),
  trace('pid_in_state', 'tp_btf: bpf_get_current_pid_tgid'),
  trace('cgid_in_state', 'tp_btf: bpf_get_current_cgroup_id'),
  trace('cookie_in_state', 'tp_btf: bpf_get_socket_cookie(sk)', old),
  {
    ...trace('cookie_by_read', 'tp_btf: skc_cookie read, made by other hooks'),
    beside: ['cookie_at_birth', 'cookie_at_packet'],
  },
  trace('address_key', 'tp_btf: address of sk as key of a hash'),
  trace('tcp_counters', 'tp_btf: bpf_skc_to_tcp_sock'),
  trace('counters_by_read', 'tp_btf: tcp_sock by bpf_probe_read_kernel'),
  trace('storage_in_tp', 'tp_btf: bpf_sk_storage_get', old),
  trace('task_btf', 'tp_btf: bpf_get_current_task_btf', old),
  trace('task_read', 'tp_btf: bpf_get_current_task and a CO-RE read'),
  trace('boot_ns', 'tp_btf: bpf_ktime_get_boot_ns'),
  trace('atomic_add', 'tp_btf: atomic add, result unused'),
  trace('atomic_fetch', 'tp_btf: atomic add with result', old),
  trace('atomic_xchg', 'tp_btf: atomic exchange', old),
  trace('atomic_cmpxchg', 'tp_btf: atomic compare and exchange', old),
  trace('claim_by_key', 'tp_btf: claim by bpf_map_update_elem(BPF_NOEXIST)'),
  trace('lazy_in_tp', 'tp_btf: hash with BPF_F_NO_PREALLOC'),
  trace('ring_in_tp', 'tp_btf: bpf_ringbuf_reserve'),
  { program: 'spin_in_tp', file: 'lock', asks: 'tp_btf: bpf_spin_lock', absent: old },
  { program: 'spin_in_skb', file: 'lock', asks: 'cgroup_skb: bpf_spin_lock' },
  cgroup('skb_in_cookie', 'cgroup_skb/ingress: bpf_get_socket_cookie'),
  cgroup('skb_in_cgid', 'cgroup_skb/ingress: bpf_skb_cgroup_id'),
  cgroup('skb_in_sk_cgid', 'cgroup_skb/ingress: bpf_sk_cgroup_id'),
  cgroup('skb_out_cookie', 'cgroup_skb/egress: bpf_get_socket_cookie'),
  cgroup('skb_out_cgid', 'cgroup_skb/egress: bpf_skb_cgroup_id'),
  cgroup('skb_out_pid', 'cgroup_skb/egress: bpf_get_current_pid_tgid', older),
  cgroup('skb_cur_cgid', 'cgroup_skb/egress: bpf_get_current_cgroup_id', older),
  cgroup('skb_task_btf', 'cgroup_skb/egress: bpf_get_current_task_btf', old),
  cgroup('skb_pid_by_read', 'cgroup_skb/egress: bpf_get_current_task and a CO-RE read'),
  cgroup('skb_tcp_stream', 'cgroup_skb/egress: bpf_skc_to_tcp_sock of a stream socket'),
  cgroup('skb_address_key', 'cgroup_skb/egress: address of the tcp_sock as key'),
  cgroup('skb_storage', 'cgroup_skb/egress: bpf_sk_storage_get'),
  cgroup('skb_lazy_hash', 'cgroup_skb/egress: hash with BPF_F_NO_PREALLOC'),
  cgroup('skb_ring', 'cgroup_skb/egress: bpf_ringbuf_reserve'),
  cgroup('skb_cmpxchg', 'cgroup_skb/egress: atomic compare and exchange', old),
  cgroup('skb_boot_ns', 'cgroup_skb/egress: bpf_ktime_get_boot_ns'),
  cgroup('connect4_pid', 'cgroup/connect4: bpf_get_current_pid_tgid'),
  cgroup('connect4_cgid', 'cgroup/connect4: bpf_get_current_cgroup_id'),
  cgroup('connect4_cookie', 'cgroup/connect4: bpf_get_socket_cookie'),
  cgroup('connect4_task', 'cgroup/connect4: bpf_get_current_task_btf', old),
  cgroup('sendmsg4_pid', 'cgroup/sendmsg4: bpf_get_current_pid_tgid'),
  cgroup('sendmsg4_cgid', 'cgroup/sendmsg4: bpf_get_current_cgroup_id'),
  cgroup('sendmsg4_cookie', 'cgroup/sendmsg4: bpf_get_socket_cookie'),
  cgroup('recvmsg4_pid', 'cgroup/recvmsg4: bpf_get_current_pid_tgid'),
  cgroup('recvmsg4_cgid', 'cgroup/recvmsg4: bpf_get_current_cgroup_id'),
  cgroup('recvmsg4_cookie', 'cgroup/recvmsg4: bpf_get_socket_cookie'),
  cgroup('create_pid', 'cgroup/sock_create: bpf_get_current_pid_tgid'),
  cgroup('create_cookie', 'cgroup/sock_create: bpf_get_socket_cookie'),
  cgroup('post_bind4_pid', 'cgroup/post_bind4: bpf_get_current_pid_tgid'),
  cgroup('post_bind4_cgid', 'cgroup/post_bind4: bpf_get_current_cgroup_id'),
  cgroup('post_bind4_cookie', 'cgroup/post_bind4: bpf_get_socket_cookie'),
  cgroup('release_pid', 'cgroup/sock_release: bpf_get_current_pid_tgid'),
  cgroup('release_cgid', 'cgroup/sock_release: bpf_get_current_cgroup_id'),
  cgroup('release_cookie', 'cgroup/sock_release: bpf_get_socket_cookie'),
  cgroup('release_ring', 'cgroup/sock_release: bpf_ringbuf_reserve'),
  cgroup('sockops_cookie', 'sockops: bpf_get_socket_cookie'),
  elements('elem_ring', 'iter/bpf_map_elem: look-up, probe_read_kernel, ring'),
  elements('elem_cmpxchg', 'iter/bpf_map_elem: atomic compare and exchange', old),
  elements('elem_delete', 'iter/bpf_map_elem: bpf_map_delete_elem'),
  files('file_private', 'iter/task_file: file and task'),
  files('file_map_write', 'iter/task_file: bpf_map_update_elem'),
  files('file_helper', 'iter/task_file: bpf_sock_from_file', old),
  files('file_cookie', 'iter/task_file: bpf_get_socket_cookie', old),
  files('file_storage', 'iter/task_file: bpf_sk_storage_get', old),
  files('tcp_sweep', 'iter/tcp'),
  {
    ...files('storage_sweep', 'iter/bpf_sk_storage_map, storage made by iter/task_file', old),
    map: 'storage',
    beside: ['file_storage'],
  },
];
