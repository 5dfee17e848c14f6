/* SPDX-License-Identifier: Apache-2.0
 *
 * floor ADDRESS PORT: the floor of every bench. It receives a batch, flips the QR bit, and sends the batch
 * back: the least that a server on sockets can do. A server's cost is stated as a multiple of this program's
 * in the same run.
 *
 * Ends on SIGTERM. With port 0 it takes a free one; the line "listening on PORT" says which.
 */
#include "batch.h"

static size_t flip_qr(uint8_t *pkt, size_t len)
{
	if (len < 12) /* a DNS header; RFC 1035 s4.1.1 */
		return 0;
	pkt[2] ^= 0x80; /* QR */
	return len;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: %s ADDRESS PORT\n", argv[0]);
		return 2;
	}
	run_batches(open_socket(argv[1], argv[2]), flip_qr);
}
