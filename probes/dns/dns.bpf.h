/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Not written yet: what `dns` does with each packet. */
#ifndef SONDE_DNS_H
#define SONDE_DNS_H

#include "../../bpf/packet.bpf.h"

static __always_inline void dns_on_packet(struct packet *packet)
{
}

#endif
