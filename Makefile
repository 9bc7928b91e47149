# Winnow's commands; `make help` lists them. Needs Linux (tested on Debian 12), make, git, and
# python3 >= 3.11 with its venv module.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

HOST ?= 127.0.0.1
PORT ?= 8000
WINNOW_HOME ?= .winnow
PYTHON ?= python3
VENV ?= .venv
# Arguments for the programs behind the targets: `make test PYTEST_ARGS="-k review -x"`,
# `make loop LOOP_ARGS="--epochs 5"`.
PYTEST_ARGS ?=
PROCESSES ?= logical
# Which torch a new .venv gets: TORCH=cpu is the one without CUDA, from an index of its own.
TORCH ?=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
DEMO_ARGS ?=
LOOP_ARGS ?=

# Containers often set this; each of the many processes would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
# Python compiles what is imported when it is; compiling all 14,000 files takes longer than the rest.
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt
define INSTALL_TORCH
if [ "$(TORCH)" = cpu ]; then
  sed --quiet --regexp-extended 's/^(torch|torchvision)==.*/&+cpu/p' constraints.txt > $(VENV)/torch.txt
  $(BIN)/python -m pip install --quiet --no-deps --index-url $(TORCH_INDEX) --requirement $(VENV)/torch.txt >&2
fi
endef
# Stamps: installed once for each state of these files.
PINS := pyproject.toml constraints.txt
RUNTIME := $(VENV)/.installed-runtime
TESTING := $(VENV)/.installed-testing
BROWSER := $(VENV)/.browser
LONG := browser or postgres or faults or slow
# Tests write 70,000 small files: into memory where there is room for them.
IN_MEMORY := $(shell df --output=avail --block-size=1G /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 >= 8 { print "PYTEST_DEBUG_TEMPROOT=/dev/shm" }')
# Each process takes tests from the one that has most left.
PYTEST := $(IN_MEMORY) $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal

##@ Use it

.PHONY: demo
demo: $(RUNTIME) ## Start with the sample, print a login link. Options: HOST PORT WINNOW_HOME
	@WINNOW_HOME="$(WINNOW_HOME)" exec $(BIN)/winnow demo --host "$(HOST)" --port "$(PORT)" $(DEMO_ARGS)

.PHONY: up
up: $(RUNTIME) ## Start without the sample. Options: HOST PORT WINNOW_HOME
	@WINNOW_HOME="$(WINNOW_HOME)" exec $(BIN)/winnow up --host "$(HOST)" --port "$(PORT)"

.PHONY: loop
loop: $(RUNTIME) ## Run the whole loop unattended, print the verdict as JSON. Option: LOOP_ARGS
	@exec $(BIN)/python -m benchmarks.loop $(LOOP_ARGS)

.PHONY: install
install: $(RUNTIME) ## Install what running needs into .venv

##@ Work on it

.PHONY: test
test: $(TESTING) $(BROWSER) ## Lint and all tests, as CI runs them. Options: PROCESSES PYTEST_ARGS
	@trap 'echo "make test: FAILED, see above" >&2' ERR
	$(MAKE) --no-print-directory lint
	export WINNOW_CHROMIUM="$$(cat $(BROWSER))"
	echo "── all tests"
	$(PYTEST) --durations=10 $(PYTEST_ARGS)
	echo "make test: all good"

.PHONY: quick
quick: $(TESTING) ## Lint and the quick tests: no browser, no server, nothing slow. Options as for test
	@trap 'echo "make quick: FAILED, see above" >&2' ERR
	$(MAKE) --no-print-directory lint
	echo "── quick tests"
	$(PYTEST) -m "not ($(LONG))" $(PYTEST_ARGS)
	echo "make quick: all good; make test runs the rest"

.PHONY: lint
lint: $(TESTING) ## ruff, mypy --strict and the import rules
	@echo "── lint"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/biome check --error-on-warnings frontend/static
	$(BIN)/djlint --quiet --lint frontend/templates
	if LC_ALL=C.UTF-8 grep -rnE '^.{101,}' frontend --include=*.html --include=*.js --include=*.css \
	  --exclude-dir=vendor; then echo "Longer than 100 columns, see above." >&2; exit 1; fi
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

.PHONY: format
format: $(TESTING) ## Format the code and fix what ruff can fix
	@$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/biome check --write frontend/static

.PHONY: docs
docs: $(TESTING) ## Write the tables of settings, commands and routes in docs/
	@$(BIN)/cog -r -I . docs/*.md

# Small benchmarks first. The others take longer or need more; their first lines say what.
SMALL_BENCHMARKS := fused_step published_speed pipeline_cost storage explain_image explain_click features import_speed review_page review_keys large_data
LARGE_BENCHMARKS := table1 flips curves peers loop whole_loop reviewers_load hostile_imports

.PHONY: bench
bench: $(TESTING) $(BROWSER) ## The small benchmarks in turn (minutes; data: WINNOW_REAL_DATA). Left out: table1 flips curves peers loop whole_loop reviewers_load hostile_imports
	@export WINNOW_CHROMIUM="$$(cat $(BROWSER))"; failed=
	for name in $(SMALL_BENCHMARKS); do echo "── $$name"; $(BIN)/python -m "benchmarks.$$name" || failed+=" $$name"; done
	[ -z "$$failed" ] || { echo "make bench: no figures from$$failed, see above" >&2; exit 1; }

.PHONY: migration
migration: $(RUNTIME) ## Write the next Alembic revision from backend/core/models. Option: MESSAGE
	@$(BIN)/python -m backend.migrations.revise "$(MESSAGE)"

.PHONY: clean
clean: ## Remove .venv and every cache; state in WINNOW_HOME stays
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info build

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## "; print "make <target> [OPTION=value]" } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	echo; echo "Where things live: README.md. How to work on it: CONTRIBUTING.md. Settings: docs/operations.md."

# ── installing ──────────────────────────────────────────────────────────────────────────────────

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Winnow needs Python 3.11 or newer; '$(PYTHON)' is older or absent. Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is missing. On Debian: apt-get install python3-venv   (then run make again)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): $(PINS) | $(BIN)/python
	@echo "Installing into $(VENV) (once; torch is large) ..." >&2
	$(INSTALL_TORCH)
	$(PIP_INSTALL) --quiet --editable ".[worker,embedded]" >&2
	touch $@

$(TESTING): $(PINS) | $(BIN)/python
	@echo "Installing into $(VENV) (once; torch is large) ..." >&2
	$(INSTALL_TORCH)
	$(PIP_INSTALL) --quiet --editable ".[worker,embedded,test,bench]" >&2
	touch $(RUNTIME) $@

# The stamp holds the path of the tests' browser: an installed Chromium, or one installed now.
$(BROWSER): $(TESTING)
	@find_browser() { \
	  if [ -n "$${WINNOW_CHROMIUM:-}" ]; then echo "$$WINNOW_CHROMIUM"; return; fi; \
	  for name in chromium-headless-shell chromium chromium-browser google-chrome; do command -v $$name && return; done; \
	  $(BIN)/python -c 'from playwright.sync_api import sync_playwright as s; p = s().start(); print(p.chromium.executable_path); p.stop()'; }
	if ! [ -x "$$(find_browser)" ]; then
	  echo "No Chromium found; installing one ..." >&2
	  $(BIN)/playwright install --with-deps chromium >&2 \
	    || { [ "$$(id -u)" = 0 ] && apt-get update >&2 && apt-get install --yes chromium-headless-shell >&2; } \
	    || { echo "No browser could be installed. Install chromium, or set WINNOW_CHROMIUM to one." >&2; exit 1; }
	fi
	find_browser > $@
	echo "Browser tests use $$(cat $@)" >&2

.ONESHELL:
