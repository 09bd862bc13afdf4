// SPDX-License-Identifier: Apache-2.0
/* The command line: words of the form name=value. */
#include "traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int word_count;
static char **words;

void options_read(int count, char **from)
{
	word_count = count;
	words = from;
}

const char *option(const char *name, const char *fallback)
{
	size_t length = strlen(name);

	for (int i = 0; i < word_count; i++) {
		if (!strncmp(words[i], name, length) && words[i][length] == '=')
			return words[i] + length + 1;
	}
	return fallback;
}

long option_number(const char *name, long fallback, long max)
{
	const char *text = option(name, NULL);
	char *end;
	long value;

	if (!text)
		return fallback;
	value = strtol(text, &end, 10);
	if (*text == '\0' || *end != '\0' || value < 0 || value > max) {
		fprintf(stderr, "traffic: %s=%s is no number from 0 to %ld\n", name, text, max);
		exit(2);
	}
	return value;
}

bool option_is(const char *name, const char *value)
{
	return !strcmp(option(name, ""), value);
}

/* host= and port=; an address with a colon is IPv6. */
socklen_t option_address(struct sockaddr_storage *to)
{
	const char *host = option("host", "127.0.0.1");
	in_port_t port = htons(option_number("port", 0, 65535));
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)to;
	struct sockaddr_in *four = (struct sockaddr_in *)to;

	memset(to, 0, sizeof(*to));
	if (strchr(host, ':')) {
		six->sin6_family = AF_INET6;
		six->sin6_port = port;
		check(inet_pton(AF_INET6, host, &six->sin6_addr) == 1, host);
		return sizeof(*six);
	}
	four->sin_family = AF_INET;
	four->sin_port = port;
	check(inet_pton(AF_INET, host, &four->sin_addr) == 1, host);
	return sizeof(*four);
}

struct exchange option_exchange(void)
{
	return (struct exchange){
		.request = option_number("request", 100, 1 << 30),
		.response = option_number("response", 1000, 1 << 30),
		.by_splice = option_is("by", "splice"),
		.by_sendfile = option_is("by", "sendfile"),
		.half_close = option_number("half_close", 0, 1),
		.reset = option_is("end", "reset"),
		.unread = option_is("end", "unread"),
	};
}
