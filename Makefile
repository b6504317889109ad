# The two commands a newcomer needs are `make demo` and `make test`. Both set up .venv by themselves.
# `make check` is exactly what CI runs.

PYTHON ?= python3
BIN := .venv/bin
EXAMPLES ?= 10000
SEEDS ?= 100
FUZZED ?= tests/fuzz tests/unit/test_events.py tests/unit/patterns tests/unit/formats

.PHONY: help setup demo test test-full check lint format types imports crash chaos soak fuzz corpora bench checkov api errors screenshots docs clean

.venv/.ready: uv.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Silversmith needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.13 $(MAKECMDGOALS)")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv sync --active --quiet --frozen --inexact --all-groups --all-extras
	touch $@

help:  ## these lines
	@sed -n 's/^\([a-z-]*\):.*  ## /  \1: /p' Makefile

setup: .venv/.ready  ## everything below needs; remade when the lock file changes

demo: setup  ## run the example pipeline over real data and show what came out
	$(BIN)/python examples/flights/demo.py

test: setup  ## the fast tier: every rule once
	$(BIN)/python -m pytest -n 2 -m "not full"

test-full: setup  ## the rest: engines, kills, deployments, a browser, corpora, every property with all its examples
	$(BIN)/python -m pytest -n 2 -m "full or hypothesis"

lint: setup  ## format, lint, the size budget, and the words of docs and messages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tools/lint_bodies.py src bench examples
	$(BIN)/python tools/budget.py
	$(BIN)/python tools/words.py

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

check: lint types imports test test-full  ## exactly what CI runs

api: setup  ## write the public API to tests/api.txt, after an intended change
	$(BIN)/python -m tests.api

screenshots: setup  ## take the pictures of the page in docs/images
	$(BIN)/python tools/screenshots.py

errors: setup  ## write docs/errors from the table of error codes
	$(BIN)/python -m tests.error_examples

format: setup  ## correct what a tool can correct
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

crash: setup  ## the long form of the crash suite: about a quarter of an hour
	SILVERSMITH_CRASH_FILES=2500 SILVERSMITH_CRASH_KILLS=60 $(BIN)/python -m pytest -q -s -o timeout=7200 tests/crash

chaos: setup  ## the long form of the fault suite: 80 files and 60 overwrites for each of so many seeds
	SILVERSMITH_CHAOS_SEEDS=$(SEEDS) $(BIN)/python -m pytest -q -s -o timeout=7200 tests/faults

fuzz: setup  ## damaged files of every format, tables that other libraries wrote, damaged events, patterns: many more examples than the tests take
	SILVERSMITH_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q -n 2 -o timeout=7200 $(FUZZED)

corpora: setup  ## the readers over a folder of public collections, compared with other readers: FOLDER=…
	SILVERSMITH_CORPORA="$(FOLDER)" $(BIN)/python -m pytest -q -s -o timeout=7200 tests/data/test_corpora.py
	$(BIN)/python -m tests.data.corpora "$(FOLDER)"

soak: setup  ## 100,000 files, then 24 hours and 20 days of simulated time: about 20 minutes
	$(BIN)/python bench/soak.py

.venv-checkov/.ready:
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/python -m pip install --quiet --disable-pip-version-check "checkov==3.3.30"
	touch $@

checkov: setup .venv-checkov/.ready  ## the golden templates against checkov, in an environment of its own
	SILVERSMITH_CHECKOV="$(CURDIR)/.venv-checkov/bin/checkov" $(BIN)/python -m pytest -q tests/unit/template/test_checkov.py

BENCHES := small_files latency large_file patterns queues scale handler_start cost tables

bench: setup  ## the short form of every benchmark, some minutes; peers are installed into .venv-bench
	for name in $(BENCHES); do echo; echo "## $$name"; echo; $(BIN)/python -m bench.$$name --short || exit 1; done
	$(BIN)/python -m bench.journal --stored 0 10000 --rounds 3

docs: setup  ## the site, into build/site; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/site

clean:
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
