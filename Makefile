# Two commands: `make` reproduces the default experiment, `make test` tests it; `make test-all` leaves no test out, and
# `make papers` reproduces all papers, in one report.
SHELL := /bin/bash
PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
BIN := .venv/bin

ifeq ($(wildcard $(CONFIG)),)
$(error onebasin: $(CONFIG): no such configuration; name one that is there, as in make CONFIG=config/glyphs.yaml)
endif

.DELETE_ON_ERROR:
.PHONY: results papers install test test-all lint format bench clean

results: install
	@$(BIN)/python workflow/scripts/unlock_stale.py --configfile $(CONFIG)
	@if [ -t 2 ]; then \
	  $(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG) --logger rich; \
	else \
	  set -o pipefail; \
	  $(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG) 2>&1 | $(BIN)/python workflow/scripts/brief.py; \
	fi
	$(BIN)/snakemake --configfile $(CONFIG) --report results/report.html --quiet all
	@echo "Done. Read results/report.html, or results/claims.md and results/*/tables/*.md."

papers: CONFIG := $(addprefix config/,config.yaml llfc.yaml asymmetric.yaml width.yaml hierarchical.yaml moe.yaml \
  transformers.yaml)
papers: results

install: .venv/installed

# The stamp is made last: an installation that was interrupted is done again.
.venv/installed: envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "onebasin needs Python 3.11 or later; name one: make PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Libraries whose architectures are tested. Without dependencies: torch is what it was, and the file names the others.
.venv/zoo: envs/zoo.txt .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/zoo.txt
	@touch $@

# The tests of a file share a worker; there is one a core.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile

# Style, types, unit tests, and one small experiment from nothing.
test: lint
	$(PYTEST)

# Everything: killed runs, a full disk, reruns, a cluster, a second Python, timm and transformers; says what was
# skipped and why.
test-all: lint .venv/zoo
	$(PYTEST) -rs -m ""

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

# Ours against a textbook version, in minutes: results/benchmarks/search.md and scaling.pdf. Wants a quiet machine.
bench: install
	mkdir -p results/benchmarks
	THREADS=2 $(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-json=results/benchmarks/search.json
	$(BIN)/python tests/benchmarks/report.py results/benchmarks/search.json results/benchmarks

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

# Removes what was installed and cached; results stay.
clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
