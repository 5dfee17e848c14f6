# SPDX-License-Identifier: Apache-2.0
# Fuzzers of the wire format (libFuzzer, AddressSanitizer, UBSan). Included by the top Makefile. How many inputs stands
# in tests/counts.py; FUZZ_RUNS overrides it.

.PHONY: fuzz full-fuzz fuzz-merge

FUZZ_DIR ?= build/fuzz

fuzz: $(DEV_DEPS)  ## hostile packets and responses into the parsers, with sanitizers
	tests/fuzz/build.sh $(PYTHON) $(FUZZ_DIR)
	tests/fuzz/run.sh $(FUZZ_DIR) $${FUZZ_RUNS:-$$($(PYTHON) -m tests.counts fuzz_packets)}

full-fuzz: FASTDNS_FULL := 1
full-fuzz: fuzz  ## the same with 20,000,000 inputs

fuzz-merge: $(DEV_DEPS)  # what the last runs found that reaches new code goes to the committed corpus
	for target in query response; do \
		ASAN_OPTIONS=detect_leaks=0 $(FUZZ_DIR)/$$target -merge=1 -max_len=1024 \
			tests/fuzz/corpus/$$target $(FUZZ_DIR)/corpus/$$target; \
	done
