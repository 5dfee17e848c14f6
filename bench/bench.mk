# SPDX-License-Identifier: Apache-2.0
# Benches. Included by the top Makefile; works by itself too: make -f bench/bench.mk bench-tools

BENCH_BUILD ?= bench/bin
BENCH_CFLAGS ?= -O2 -g -std=gnu11 -Wall -Wextra -Wconversion -Werror
PYTHON ?= python3

.PHONY: bench bench-tools peers

bench-tools: $(BENCH_BUILD)/floor $(BENCH_BUILD)/upstream

$(BENCH_BUILD)/%: bench/%.c bench/batch.h
	@mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -o $@ $<

# BENCH_ARGS: for instance --quick, or --servers fastdns,unbound --rounds 5
bench: bench-tools  ## fastdns and its peers as multiples of the floor, as a table and JSON
	$(PYTHON) -m bench.run $(BENCH_ARGS)

peers:  ## build CoreDNS and node-cache for tests and benches
	tests/peers/build.sh
