/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Not written yet: what `capture` does with each packet. */
#ifndef SONDE_CAPTURE_H
#define SONDE_CAPTURE_H

#include "../../bpf/packet.bpf.h"

static __always_inline void capture_on_packet(struct packet *packet)
{
}

#endif
