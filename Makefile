# `make demo` and `make test` need Python 3.11 or newer and pip; nothing else has to be installed.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: help demo test lint bench ci clean

help:
	@echo "make demo    set up $(VENV) and run examples/demo.py"
	@echo "make test    set up $(VENV) with the test extra and run the tests"
	@echo "make lint    ruff on the checkout, mypy on what is installed from it"
	@echo "make bench   the benchmark's steady-state rows, beside the peers that are installed"
	@echo "make ci      what .ci/run does: build, install the wheel elsewhere, check and test it"
	@echo "make clean   delete $(VENV) and what building left behind"

demo: $(VENV)/.installed
	$(RUN) examples/demo.py

test: $(VENV)/.installed-test
	$(RUN) -m pytest -n auto

lint: $(VENV)/.installed-lint
	$(RUN) -m ruff check .
	rm -rf build weft.egg-info $(VENV)/lint
	$(RUN) -m pip install --quiet --no-deps --target $(VENV)/lint .
	cd $(VENV)/lint && $(abspath $(RUN)) -m mypy --config-file $(CURDIR)/pyproject.toml -p weft

bench: $(VENV)/.installed-bench
	$(RUN) -m bench --quick

ci:
	.ci/run

clean:
	rm -rf $(VENV) build dist weft.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "weft needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet -e .
	@touch $@

$(VENV)/.installed-%: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet -e '.[$*]'
	@touch $@ $(VENV)/.installed
