/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Not written yet: what `http2` does with each packet. */
#ifndef SONDE_HTTP2_H
#define SONDE_HTTP2_H

#include "../../bpf/packet.bpf.h"

static __always_inline void http2_on_packet(struct packet *packet)
{
}

#endif
