# make serve   sets everything up, fetches the default model, serves it   (PORT, MODEL, ARGS)
# make test    runs every test          make check   format, lint, types, architecture
# make oracle  compares with transformers on every model and schedule (an hour)
PYTHON ?= python3
PORT ?= 8000
MODEL ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
NATIVE := CMakeLists.txt $(wildcard yeoul/*/*.c yeoul/*/*/*.cpp yeoul/*/*/*.h)

.PHONY: install install-dev serve check test oracle fix clean

install: $(STAMP)
install-dev: $(DEV_STAMP)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Yeoul needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(STAMP): $(BIN)/python pyproject.toml constraints.txt $(NATIVE)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

serve: install
	$(BIN)/yeoul serve $(MODEL) --port $(PORT) $(ARGS)

check: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit/test_architecture.py

test: install-dev
	$(BIN)/pytest -q tests

oracle: install-dev
	$(BIN)/pytest -q -s -m oracle tests/e2e

fix: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist
