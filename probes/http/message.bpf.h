/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The messages within the bytes of one connection, whoever brings them: packets (http.bpf.h), or the calls of a TLS
 * library. README.md has the contract.
 *
 * A message begins where the one before it ends (Content-Length, or its headers if they name no length), or, where that
 * cannot be known, with a segment that begins like one while no response is awaited. The common case, a segment that is
 * one whole request with the same line as the last, costs one load and a comparison of some words.
 */
#ifndef SONDE_HTTP_MESSAGE_H
#define SONDE_HTTP_MESSAGE_H

#include "response.bpf.h"

/* All that these bytes of a library's call say. */
static __always_inline void http_on_bytes(struct http_conn *c, struct http_bytes *from,
					  bool request)
{
	u32 rest = request ? http_on_request(NULL, c, from, true) :
			     http_on_response(NULL, c, from, true);

	if (rest && request)
		http_requests_of(NULL, c, from, rest, true);
	else if (rest)
		http_responses_of(NULL, c, from, rest, true);
}

#endif
