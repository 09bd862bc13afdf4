/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Not written yet: what `cgroup` does with each packet. */
#ifndef SONDE_CGROUP_H
#define SONDE_CGROUP_H

#include "../../bpf/packet.bpf.h"

static __always_inline void cgroup_on_packet(struct packet *packet)
{
}

#endif
