# Two commands set everything up: `make demo` and `make test`. Python 3.11, make and git are all they need.
.PHONY: setup demo test coverage check bench format clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# uv is brought into the checkout, so that a machine needs none; a version that is known to read uv.lock.
UV := .uv/bin/uv
UV_VERSION := 0.13.9
VENV := .venv
RUN := $(VENV)/bin
# Tests on every core but never more than four at once: each worker holds TensorFlow in memory.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 4 ] && echo 4 || echo $$n)

export TF_CPP_MIN_LOG_LEVEL ?= 1

# Bytecode of our own too: where PYTHONDONTWRITEBYTECODE is set, every process would compile it anew.
setup: $(VENV)/.installed
	@$(RUN)/python -m compileall -q schemas components pipeline configs

$(UV):
	@test -n "$(PYTHON)" || { echo "Penstock needs Python 3.11; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) is not Python 3.11" >&2; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/.installed: $(UV) pyproject.toml uv.lock
	$(UV) sync --locked --quiet --python $(PYTHON)
	@touch $@

demo: setup ## a real pipeline, from trips to a served model
	$(RUN)/pipeline run configs/taxi/pipeline.yaml
	@echo
	@$(RUN)/python -m configs.taxi.ask serving/taxi 2>/dev/null
	@echo "ask it yourself: $(RUN)/python -m configs.taxi.ask serving/taxi"

# Modules go to the workers in the order of tests/conftest.py: the longest first.
PYTEST := $(RUN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

test: setup ## every test
	$(PYTEST)

coverage: setup ## every test, and the lines that none of them runs; in Python's own work half as long again
	$(PYTEST) --cov --cov-report=term:skip-covered

check: setup ## what CI looks at besides the tests
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/lint-imports

bench: setup ## ours and TFX's in turn, into tests/benchmarks/RESULTS.md; takes most of an hour, and a quiet machine
	$(RUN)/python tests/benchmarks/bench.py $(BENCH)

format: setup
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

clean: ## remove what the demo made; the environment stays
	rm -rf .penstock serving
