# make demo, make test: each is enough on a fresh machine. VENV and PYTHON may be given: make test VENV=.venv-3.12 PYTHON=python3.12
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
SETUP := .ci/setup pyproject.toml
.PHONY: help demo test lint types contract tests test-all soak bench bench-check docs clean

help:
	@echo "make demo      install, replay a real capture through IPVS, write demo/report.html"
	@echo "make test      everything CI runs: lint, types, import contract, tests"
	@echo "make test-all  the tests on each of Python 3.11, 3.12, 3.13 that is on this machine"
	@echo "make soak      the long runs · make bench: every figure · make bench-check: instruction counts · make docs: the book, in docs/_build/html"

# One stamp a set of extras: a repeated make installs nothing, a changed pyproject.toml installs again.
$(VENV)/.have-cli: $(SETUP)
	.ci/setup "$(VENV)" cli "$(PYTHON)"
$(VENV)/.have-dev: $(SETUP)
	.ci/setup "$(VENV)" dev "$(PYTHON)"
$(VENV)/.have-bench: $(SETUP)
	.ci/setup "$(VENV)" bench "$(PYTHON)"
$(VENV)/.have-soak: $(SETUP)
	.ci/setup "$(VENV)" soak "$(PYTHON)"
$(VENV)/.have-docs: $(SETUP)
	.ci/setup "$(VENV)" docs "$(PYTHON)"

demo: $(VENV)/.have-cli
	mkdir -p demo
	$(BIN)/ipvs-model replay examples/web-and-dns.pcap.gz --rules examples/web-and-dns.rules --report demo/report.html

test: lint types contract tests

lint: $(VENV)/.have-dev
	$(BIN)/ruff check .

types: $(VENV)/.have-dev
	$(BIN)/mypy

contract: $(VENV)/.have-dev
	$(BIN)/lint-imports

tests: $(VENV)/.have-dev
	$(BIN)/python -m pytest -n 2 -q

test-all: test
	.ci/each-python

soak: $(VENV)/.have-soak
	$(BIN)/python -m soak malformed
	$(BIN)/python -m soak sync
	$(BIN)/python -m soak control
	$(BIN)/python -m soak machine
	$(BIN)/python -m soak fuzz-packets
	$(BIN)/python -m soak fuzz-sync
	$(BIN)/python -m soak mutation
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -n 2 -q tests

bench: $(VENV)/.have-bench
	$(BIN)/python -m benchmarks

bench-check: $(VENV)/.have-bench
	$(BIN)/python -m benchmarks.instructions

docs: $(VENV)/.have-docs
	$(BIN)/python -m sphinx -W -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf demo docs/_build build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
