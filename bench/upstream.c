/* SPDX-License-Identifier: Apache-2.0
 *
 * upstream ADDRESS PORT nx|a: the upstream of the benches, at nearly the floor's cost, so that it never limits
 * a server.
 *
 *   nx   every question: NXDOMAIN, with an SOA of the name's last label (so that it may be cached, RFC 2308 s5)
 *   a    every question for A: one address in 10/8, made from the name, so the same in each run; every other
 *        type: NODATA with that SOA
 *
 * The reply is the header, the question as it came, and one record; an OPT in the query is not answered, as a
 * server without EDNS would (RFC 6891 s7). Ends on SIGTERM. With port 0 it takes a free one; the line "listening
 * on PORT" says which.
 */
#include "batch.h"

enum {
	HEADER_LEN = 12,
	LABEL_MAX = 63,  /* RFC 1035 s2.3.4 */
	NAME_MAX_LEN = 255,
	RECORD_MAX = 64, /* the longest record appended below, rounded up */
	TYPE_A = 1,
	RCODE_NXDOMAIN = 3,
	NEGATIVE_TTL = 60, /* s; both the SOA's TTL and its MINIMUM */
	POSITIVE_TTL = 3600, /* s; longer than any bench, so that what was preloaded stays a hit */
};

static int answer_a;

static uint8_t *put_u16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
	return p + 2;
}

static uint8_t *put_u32(uint8_t *p, uint32_t value)
{
	return put_u16(put_u16(p, value >> 16), value & 0xffff);
}

/* SOA owned by the name at `owner_off`: MNAME ns.<owner>, RNAME admin.<owner>, both by compression. */
static uint8_t *put_soa(uint8_t *p, unsigned owner_off)
{
	static const uint8_t names[] = {2, 'n', 's', 0xc0, 0, 5, 'a', 'd', 'm', 'i', 'n', 0xc0, 0};
	uint8_t *start;

	p = put_u16(p, 0xc000 | owner_off);
	p = put_u16(p, 6); /* SOA */
	p = put_u16(p, 1); /* IN */
	p = put_u32(p, NEGATIVE_TTL);
	p = put_u16(p, sizeof names + 20);
	start = p;
	memcpy(p, names, sizeof names);
	put_u16(start + 3, 0xc000 | owner_off);
	put_u16(start + 11, 0xc000 | owner_off);
	p += sizeof names;
	p = put_u32(p, 1);     /* SERIAL */
	p = put_u32(p, 3600);  /* REFRESH */
	p = put_u32(p, 600);   /* RETRY */
	p = put_u32(p, 86400); /* EXPIRE */
	return put_u32(p, NEGATIVE_TTL);
}

static size_t answer(uint8_t *pkt, size_t len)
{
	unsigned pos = HEADER_LEN, last_label = HEADER_LEN;
	uint32_t hash = 2166136261u; /* FNV-1a */

	if (len < HEADER_LEN + 5 || (pkt[2] & 0x80) || pkt[4] != 0 || pkt[5] != 1)
		return 0; /* a reply, or not one question: nothing that a bench sends */
	while (pos < len && pkt[pos] != 0) {
		unsigned label = pkt[pos];
		if (label > LABEL_MAX || pos + 1 + label >= len || pos - HEADER_LEN > NAME_MAX_LEN)
			return 0;
		last_label = pos;
		for (unsigned i = 0; i <= label; i++)
			hash = (hash ^ (pkt[pos + i] | 0x20)) * 16777619u; /* letters fold; the rest only has to be stable */
		pos += label + 1;
	}
	if (pos + 5 > len || pos + 5 + RECORD_MAX > BUFFER_LEN)
		return 0;

	unsigned qtype = (unsigned)pkt[pos + 1] << 8 | pkt[pos + 2];
	uint8_t *p = pkt + pos + 5;
	int positive = answer_a && qtype == TYPE_A;

	pkt[2] = (uint8_t)(0x84 | (pkt[2] & 0x01));                                   /* QR, AA, the client's RD */
	pkt[3] = (uint8_t)(0x80 | (pkt[3] & 0x10) | (answer_a ? 0 : RCODE_NXDOMAIN)); /* RA, the client's CD */
	put_u16(pkt + 6, positive ? 1 : 0);
	put_u16(pkt + 8, positive ? 0 : 1);
	put_u16(pkt + 10, 0);
	if (positive) {
		p = put_u16(p, 0xc000 | HEADER_LEN);
		p = put_u16(p, TYPE_A);
		p = put_u16(p, 1);
		p = put_u32(p, POSITIVE_TTL);
		p = put_u16(p, 4);
		p = put_u32(p, 10u << 24 | (hash & 0xffffff));
	} else {
		p = put_soa(p, last_label);
	}
	return (size_t)(p - pkt);
}

int main(int argc, char **argv)
{
	if (argc != 4 || (strcmp(argv[3], "nx") != 0 && strcmp(argv[3], "a") != 0)) {
		fprintf(stderr, "usage: %s ADDRESS PORT nx|a\n", argv[0]);
		return 2;
	}
	answer_a = argv[3][0] == 'a';
	run_batches(open_socket(argv[1], argv[2]), answer);
}
