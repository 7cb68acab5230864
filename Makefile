# Every target makes the environment first if it is missing or old; a second call starts at once.
# PYTHON names the Python to make it with: make lab PYTHON=python3.12
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11 .venv/bin/python
BIN := .venv/bin
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses=2 --dist=loadfile
LINT = $(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/lint-imports
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)# JupyterLab does not start as root without it

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s%s\n", $$1, $$2}' Makefile

lab: environment  ## open the lectures in JupyterLab (LAB_ARGS: its options, such as --no-browser)
	$(BIN)/python -m jupyterlab lectures $(ROOT) $(LAB_ARGS)

test: environment  ## run all tests, every notebook, the linters (TEST_ARGS: pytest's options, such as -k vae)
	$(PYTEST) $(TEST_ARGS)
	$(LINT)

check: environment  ## the quick part of make test, for every commit: no lecture is run, no browser, no sandbox
	$(PYTEST) -m "not (lecture or browser or sandbox or slow)" --durations=10 $(TEST_ARGS)
	$(LINT)

foreign: environment  ## run every lecture as other processors would; tells what differs (FOREIGN_ARGS: --setting avx2 …)
	$(BIN)/course foreign $(FOREIGN_ARGS)

lectures: environment  ## run every lecture from top to bottom into build/
	$(BIN)/course lectures

notebooks: environment  ## make the notebooks from their sources in solutions/ and run what changed
	$(BIN)/course notebooks

widgets: environment  ## bundle the widgets' code (by node) and take their still pictures (by Chromium)
	$(BIN)/course widgets

checkpoints: environment  ## train the networks in course_utils/checkpoints again
	$(BIN)/course checkpoints

bench: environment  ## measure against peers; prints ratios
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

environment:
	@for python in $(PYTHON); do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && exec $$python course_tools/bootstrap.py; \
	done; echo "No Python 3.11 or newer found as $(PYTHON): install one from https://www.python.org/downloads/" >&2; exit 1

.PHONY: help lab test check foreign lectures notebooks widgets checkpoints bench environment
