# Everything runs in .venv, which is made when it is missing.
# Paths here are relative on purpose: make splits names at spaces, and a checkout may lie under one.

PYTHON ?= python3
PYTEST_ARGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
LAVA := .venv/.lava
DOCS := .venv/.docs
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

# Each of hundreds of processes would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-marked test-all lint docs clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

demo: $(LAVA) ## a spiking agent on a simulated chip plays Pong, proven equal to Lava
	$(BIN)/mtspark demo

test: $(INSTALLED) ## the fast tests; PYTEST_ARGS is handed on
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-marked: $(LAVA) ## only the slow ones and those that need the network or Lava
	$(BIN)/python -m pytest -m 'slow or network or third_party' $(PARALLEL) $(PYTEST_ARGS)

test-all: test test-marked ## every test

lint: $(INSTALLED) ## style, types and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DOCS) ## the documentation site, in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean: ## remove caches and build products; .venv stays
	rm -rf build dist mtspark.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

# A stamp is written last, so an install that was interrupted or failed is done again.
# An environment that has pip is kept, whoever made it; half of one is completed.
$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON): install Python 3.10 or newer, or name one: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: $(PYTHON) is older than 3.10: name a newer one: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make environments: install its venv package (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	@echo "Installing into .venv: a few minutes, once."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: .venv has a Python older than 3.10: remove .venv and try again" >&2; exit 2; }
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
# On all processors, where pip takes one; their tests are not run, and some are of other Pythons.
	@$(BIN)/python -m compileall -q -j 0 -x '/tests?/' .venv/lib >/dev/null 2>&1 || true
	@touch $@

$(DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

$(LAVA): $(INSTALLED)
	PIP_CONSTRAINT=constraints.txt $(BIN)/mtspark install-lava
	@touch $@
