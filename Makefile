# What CI runs is what you run. `make demo` and `make test` do all of their own set-up.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.headgate-ready
NATIVE := $(wildcard csrc/*) $(wildcard router/*/*.pyx router/*/*.pxd)

.PHONY: help setup demo test test-fast lint format imports bench fuzz storm sanitize wheel lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## virtual environment, the vLLM that fits this machine, the native extension

$(READY): requirements/install.py requirements/cpu.txt pyproject.toml setup.py $(NATIVE)
	$(PYTHON) requirements/install.py $(VENV)
	@touch $@

demo: $(READY)  ## two small real models behind one endpoint, on this machine
	$(BIN)/python -P examples/demo.py

test: $(READY)  ## the whole suite, real vLLM engines included
	$(BIN)/python -P -m pytest

test-fast: $(READY)  ## without the engines
	$(BIN)/python -P -m pytest -m "not engine"

lint: $(READY)  ## ruff, mypy --strict, import floors, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror csrc/*.hpp

format: $(READY)  ## rewrite to style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i csrc/*.hpp

imports: $(READY)  ## the picture of all imports, docs/images/imports.svg
	$(BIN)/python tests/house/draw_imports.py

bench: $(READY)  ## micro-benchmarks; the figures of docs/performance.md have a command each
	$(BIN)/python -P -m pytest bench --benchmark-only

fuzz: $(READY)  ## minutes of mutated frames and HTTP requests; a failure prints the seed that repeats it
	HEADGATE_FUZZ_ROUNDS=$${HEADGATE_FUZZ_ROUNDS:-200000} HEADGATE_FUZZ_SEED=$${HEADGATE_FUZZ_SEED:-$$(date +%s)} \
	  $(BIN)/python -P -m pytest tests/fuzz --timeout 0

storm: $(READY)  ## minutes of killed hosts, leaving clients and ending servers; a failure prints the seed that repeats it
	$(BIN)/python -P -m tests.storm $${HEADGATE_STORM_SEEDS:-$$(seq 1 20)}

sanitize: $(READY)  ## the tests of all native code, the request path too, on an AddressSanitizer + UBSan build (gcc)
	HEADGATE_BUILD=sanitize $(BIN)/python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	export LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=build/sanitize/lib; \
	$(BIN)/python -P -c "from router.frontend import reply; from router.native import scorer; from router.observe import appender; from router.pipeline import intake; \
	  assert all('sanitize' in each.__file__ for each in (reply, scorer, appender, intake))" && \
	$(BIN)/python -P -m pytest tests/native tests/observe tests/heads tests/features tests/dialects tests/frontend tests/gate tests/pipeline tests/policy tests/pool tests/ipc tests/storm tests/fuzz

wheel: $(READY)  ## a wheel in dist/
	$(BIN)/python -P -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

lock: $(READY)  ## pin what is installed now
	(echo "# Every package of the CPU set-up, pinned. Regenerate: make lock"; \
	 $(BIN)/python -m pip freeze --all --exclude-editable | grep -v -i -E '^(pip|headgate|headgate-router|torchvision|torchaudio|torchcodec)[ =]' | sed 's/+cpu$$//') > requirements/cpu.txt

clean:  ## what builds leave behind; the virtual environment stays
	rm -rf build dist *.egg-info router/*/*.so router/*/*.cpp .pytest_cache .mypy_cache .ruff_cache .hypothesis
