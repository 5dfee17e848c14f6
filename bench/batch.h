/* SPDX-License-Identifier: Apache-2.0
 *
 * The batch loop shared by floor.c and upstream.c: one UDP socket, recvmmsg, a reply made in place, sendmmsg.
 *
 * Both programs must cost the same for the socket work, so that work stands here once. Nothing but run_batches()
 * is on the packet path; the numbers (batch, buffer, queue) are those of fastdns's workers, else the ratio would
 * measure buffers.
 */
#ifndef FASTDNS_BENCH_BATCH_H
#define FASTDNS_BENCH_BATCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* recvmmsg, sendmmsg */
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	BATCH = 64,                     /* messages a system call */
	BUFFER_LEN = 4096,              /* octets a message: the largest EDNS reply fastdns sends */
	BUFFER_STRIDE = BUFFER_LEN + 64, /* one cache line more: at exactly 4096 all headers fall into one L1 set */
	SOCKET_QUEUE = 4 << 20,         /* SO_RCVBUFFORCE; the kernel books twice this */
};

/* Makes the reply from `pkt` (`len` octets, room for BUFFER_LEN) in place; returns its length, 0: send nothing. */
typedef size_t (*make_reply_fn)(uint8_t *pkt, size_t len);

static void on_term(int signo)
{
	(void)signo;
	_exit(0);
}

/* A bound UDP socket for ADDRESS PORT (IPv4 or IPv6; port 0: any). Exits with a message when that fails. */
static int open_socket(const char *address, const char *port)
{
	struct sockaddr_storage ss;
	socklen_t ss_len;
	char *end;
	unsigned long number = strtoul(port, &end, 10);
	int one = 1, queue = SOCKET_QUEUE;

	memset(&ss, 0, sizeof ss);
	if (*port == '\0' || *end != '\0' || number > 65535) {
		fprintf(stderr, "port %s: not a number from 0 to 65535\n", port);
		exit(2);
	}
	if (inet_pton(AF_INET, address, &((struct sockaddr_in *)&ss)->sin_addr) == 1) {
		ss.ss_family = AF_INET;
		((struct sockaddr_in *)&ss)->sin_port = htons((uint16_t)number);
		ss_len = sizeof(struct sockaddr_in);
	} else if (inet_pton(AF_INET6, address, &((struct sockaddr_in6 *)&ss)->sin6_addr) == 1) {
		ss.ss_family = AF_INET6;
		((struct sockaddr_in6 *)&ss)->sin6_port = htons((uint16_t)number);
		ss_len = sizeof(struct sockaddr_in6);
	} else {
		fprintf(stderr, "address %s: neither IPv4 nor IPv6\n", address);
		exit(2);
	}

	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0) {
		perror("socket");
		exit(1);
	}
	/* Without CAP_NET_ADMIN the forced size is refused; the plain one is cut to net.core.rmem_max. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &queue, sizeof queue) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &queue, sizeof queue);
	if (bind(fd, (struct sockaddr *)&ss, ss_len) < 0) {
		perror("bind");
		exit(1);
	}
	if (getsockname(fd, (struct sockaddr *)&ss, &ss_len) == 0) {
		/* Whoever started us reads this line: it is the sign that queries are queued from now on. */
		printf("listening on %u\n", ntohs(ss.ss_family == AF_INET ? ((struct sockaddr_in *)&ss)->sin_port
									  : ((struct sockaddr_in6 *)&ss)->sin6_port));
		fflush(stdout);
	}
	return fd;
}

/* Serve until SIGTERM or SIGINT. The only place that receives and sends. */
static void run_batches(int fd, make_reply_fn make_reply)
{
	static uint8_t buffers[BATCH][BUFFER_STRIDE];
	static struct sockaddr_storage clients[BATCH];
	static struct iovec iovecs[BATCH];
	static struct mmsghdr received[BATCH], replies[BATCH];
	struct sigaction action = {.sa_handler = on_term};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	for (int i = 0; i < BATCH; i++) {
		iovecs[i].iov_base = buffers[i];
		received[i].msg_hdr.msg_name = &clients[i];
		received[i].msg_hdr.msg_iov = &iovecs[i];
		received[i].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			iovecs[i].iov_len = BUFFER_LEN;
			received[i].msg_hdr.msg_namelen = sizeof clients[i];
		}
		/* Blocks for the first message only, then takes what is there. */
		int n = recvmmsg(fd, received, BATCH, MSG_WAITFORONE, NULL);
		if (n < 0) {
			if (errno == EINTR || errno == ECONNREFUSED)
				continue;
			perror("recvmmsg");
			exit(1);
		}
		int ready = 0;
		for (int i = 0; i < n; i++) {
			size_t len = make_reply(buffers[i], received[i].msg_len);
			if (len == 0)
				continue;
			iovecs[i].iov_len = len;
			replies[ready++].msg_hdr = received[i].msg_hdr;
		}
		for (int sent = 0; sent < ready;) {
			int done = sendmmsg(fd, replies + sent, (unsigned)(ready - sent), 0);
			if (done > 0)
				sent += done;
			else if (errno != EINTR)
				sent++; /* this client can't be reached: its reply is lost, the others' are not */
		}
	}
}

#endif
