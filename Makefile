# make serve   sets everything up, fetches the default model, serves it   (PORT, MODEL, ARGS)
# make test    runs the tests           make check   format, lint, types, architecture
# make test-long  runs the long matrices: the plainest kills of everybody, every size, the wheel in an environment of its own
# make wheel   builds what people install into dist/
# make agents    runs real agents, clients, routers and a browser from npm and PyPI on servers (skipped where there are none)
# make agents-long  the same, and load clients that are large to install
# make ray       puts Ray into the environment, and runs the tests that need it: two nodes on this machine
# make sanitize  builds the native parts with ASan and UBSan and runs their tests
# make fuzz     sends thousands of made-up requests to a running server (hours)
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

# The tests whose work is native, and the environment that a library with gcc's sanitizers needs in a plain interpreter: their
# runtimes before all else. Leaks are left out, since CPython and torch keep much until the end.
SANITIZED := build/sanitized
SANITIZED_TESTS := tests/unit/kernels tests/unit/models/test_same_answer.py tests/unit/models/test_recorded_layers.py \
	tests/unit/transport/test_ring.py tests/unit/transport/test_ring_damage.py tests/unit/transport/test_channel.py tests/processes/transport/test_ring_processes.py
SANITIZER_ENVIRONMENT = LD_PRELOAD="$(foreach name,asan ubsan stdc++,$(shell $(CC) -print-file-name=lib$(name).so))" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1

# Tests start processes by the hundred: what Python has compiled is kept for the next, also where the environment forbids it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install install-dev serve check test test-long wheel oracle chaos fuzz agents agents-long ray sanitize fix clean

install: $(STAMP)
install-dev: $(DEV_STAMP)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Yeoul needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(STAMP): $(BIN)/python pyproject.toml constraints.txt $(NATIVE)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

# The package is there: only what it needs besides is installed, and nothing is built again.
$(DEV_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt 'yeoul[dev]'
	touch $@

serve: install
	$(BIN)/yeoul serve $(MODEL) --port $(PORT) $(ARGS)

check: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit/test_architecture.py tests/unit/test_no_foreign_code.py tests/unit/web_process/live/test_page_files.py

# The tests in parts, LANES of them side by side, since most wait for processes more than they compute. Threads that wait for each
# other sleep there: those that spin take the cores from the other parts. What no part names is among the others, which begin first.
LANES ?= 3
PART_models := $(filter-out %/test_wheel.py,$(wildcard tests/e2e/test_*.py)) tests/poison
PART_processes-1 := $(wildcard tests/processes/test_[a-d]*.py)
PART_processes-2 := $(wildcard tests/processes/test_[e-k]*.py)
PART_processes-3 := $(wildcard tests/processes/test_[l-q]*.py)
PART_processes-4 := $(wildcard tests/processes/test_[r-z]*.py)
PART_deaths-1 := tests/chaos/test_kill_matrix.py
PART_deaths-2 := $(filter-out $(PART_deaths-1),$(wildcard tests/chaos/test_*.py))
PARTS := deaths-1 models deaths-2 processes-1 processes-2 processes-3 processes-4
PART_others := tests $(foreach part,$(PARTS),$(addprefix --ignore ,$(PART_$(part))))
SIDE_BY_SIDE := @echo "$(LANES) parts at a time; what one prints is shown when it has ended, which takes minutes (with LANES=1 at once)" && \
	OMP_WAIT_POLICY=passive $(MAKE) --no-print-directory --keep-going $(if $(filter 1,$(LANES)),,--output-sync) -j$(LANES)

test: install-dev
	$(SIDE_BY_SIDE) part-others $(PARTS:%=part-%)

test-long: install-dev
	$(SIDE_BY_SIDE) part-others $(PARTS:%=part-%) CHOSEN='-m "long and not chaos and not fuzz and not oracle and not agents"'

part-%:
	@$(BIN)/pytest -q -o cache_dir=.pytest_cache/$* $(CHOSEN) $(PART_$*)

wheel: install-dev
	$(BIN)/python -m build --outdir dist .

oracle: install-dev
	$(BIN)/pytest -q -s -m oracle tests/e2e

chaos: install-dev
	$(BIN)/pytest -q -m "chaos or long or not chaos" tests/chaos

fuzz: install-dev
	$(BIN)/pytest -q -m "fuzz or long or not fuzz" tests/processes/test_openapi.py

PART_agents := tests/agents
PART_suites := tests/suites
PART_browser := tests/browser

agents: install-dev
	$(SIDE_BY_SIDE) part-suites part-agents part-browser CHOSEN='-s -m "agents and not long"'

agents-long: install-dev
	$(BIN)/pytest -q -s -m agents tests/agents tests/suites tests/browser

ray: install-dev
	$(BIN)/pip install --quiet --constraint constraints.txt 'yeoul[ray]'
	$(BIN)/pytest -q -m long tests/processes/test_ray.py

# An environment of its own that shares the packages of the ordinary one; an import takes libraries from the environment.
sanitize: install-dev
	$(BIN)/python -m venv --clear --without-pip $(SANITIZED)/environment
	$(BIN)/python -c 'import sys; print(*(path for path in sys.path if path.endswith("site-packages")), sep="\n")' \
		> $$($(SANITIZED)/environment/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ordinary.pth
	$(BIN)/python -m pip --python $(SANITIZED)/environment/bin/python install --quiet --no-deps . --config-settings=build-dir=$(SANITIZED)/objects \
		--config-settings=cmake.define.YEOUL_SANITIZE=ON --config-settings=install.strip=false
	$(SANITIZER_ENVIRONMENT) $(SANITIZED)/environment/bin/python -m pytest -q -p no:cacheprovider --capture=sys $(SANITIZED_TESTS)

fix: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist
