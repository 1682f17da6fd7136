# Two commands on a fresh machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# On shared machines, torch's threads spin at barriers and stall each other.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test lint types layers unit docs bench calibrate install clean

demo: $(VENV)/.installed
	$(BIN)/steerlens demo

test: lint types layers unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

unit: $(VENV)/.installed-dev
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadscope

bench: $(VENV)/.installed-dev
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

calibrate: $(VENV)/.installed-dev
	for script in benchmarks/calibrate_*.py; do $(BIN)/python $$script || exit 1; done

docs: $(VENV)/.installed-dev
	$(PIP) --editable '.[docs]'
	$(BIN)/mkdocs build --strict

install: $(VENV)/.installed-dev

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"steerlens needs Python 3.11 or newer, but {sys.executable} is {sys.version.split()[0]}. Use: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'Installing steerlens into $(VENV) (torch is large; this takes minutes the first time) ...'
	$(PIP) torch
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'Installing steerlens with its development tools into $(VENV) ...'
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache steerlens-demo
