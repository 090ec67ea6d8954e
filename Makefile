# One command per task; `make` alone lists them. Everything runs in .venv, which is made once and brought up to date
# when pyproject.toml or constraints.txt change.

PYTHON ?= python3

READY := .venv/.installed
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
GOAL ?= $(firstword $(MAKECMDGOALS))
AGAIN := make PYTHON=python3.12 $(GOAL)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

install: $(READY)  ## make .venv and install the package with what its tests need

demo:  ## generate shapes, train a small CenterMask on the CPU, evaluate it, draw its predictions
	@start=$$(date +%s) && $(MAKE) --no-print-directory install GOAL=demo \
	  && echo "[1/5] environment .venv ready ($$(($$(date +%s) - start)) s)"
	@.venv/bin/centermask demo

# Two processes, each with whole files: tests of a file share what is dear to make, a trained model for example.
test: $(READY)  ## run the fast tests
	.venv/bin/python -m pytest -n 2 --dist loadfile -m "not slow"

# A process for each folder: TensorFlow keeps the memory of the largest network that a process has run. Two at a time, as
# one keeps little more than a core busy; the trainings, which take longest, come first. A folder prints when it is done.
test-slow: $(READY)  ## run the slow tests
	@grep -rl --include 'test_*.py' mark.slow tests/* | cut -d/ -f1,2 | sort -ru | xargs -P 2 -I PART sh -c \
	  'log=$$(mktemp); .venv/bin/python -m pytest -m slow --durations 5 PART > "$$log" 2>&1; status=$$?; \
	  echo "== PART"; cat "$$log"; rm "$$log"; [ $$status -eq 0 ] || echo "failed: PART"; exit $$status'

check: $(READY)  ## lint and check the format
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

clean:  ## remove .venv, caches and build files; runs/ stays
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv whose Python still works is kept, so that an update installs only what changed.
$(READY): pyproject.toml constraints.txt
	@.venv/bin/python -c '$(SUPPORTED)' 2>/dev/null || { \
	  command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	    echo "error: expected Python 3.11, 3.12 or 3.13, received no command \"$(PYTHON)\"." >&2; \
	    echo "Install one of them, or name it: $(AGAIN)" >&2; exit 1; }; \
	  "$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null || { \
	    echo "error: expected Python 3.11, 3.12 or 3.13, received $$("$(PYTHON)" --version 2>&1 | head -n 1) from \"$(PYTHON)\"." >&2; \
	    echo "Install one of them, or name it: $(AGAIN)" >&2; exit 1; }; \
	  "$(PYTHON)" -m venv --clear .venv; }
	@echo "installing packages into .venv (once; takes some minutes)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[export,serving,test,dev]"
	@touch $@
