# Needs Python 3.11 or newer with pip; everything else goes into $(VENV).
# An environment of your own: `make test VENV=/path/to/venv`.

PYTHON ?= python3
VENV ?= .venv

PY := $(VENV)/bin/python
# Two processes run the tests, each file in one of them, long files first (tests/conftest.py). Each has one thread: with
# two, four would share two cores, and the nets of the tests are too small to gain from a second one. Tests of more
# threads set their number.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
STAMP := $(VENV)/.bcgraph-setup
WHEEL := build/typecheck

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast nightly lint typecheck format docs bench clean

help:
	@echo "make setup      a virtual environment in $(VENV) with bcgraph and its tools"
	@echo "make demo       place feedback in a small network on real digits, export it and run it"
	@echo "make test       the whole test suite"
	@echo "make test-fast  the tests that take no more than a few seconds each"
	@echo "make nightly    the rest of large products of cases, which \`make test\` leaves out"
	@echo "make lint       ruff, and mypy --strict on the package as it is installed"
	@echo "make format     let ruff format and sort what it can"
	@echo "make docs       the documentation site, in build/site; a broken link is an error"
	@echo "make bench      the benchmarks (minutes; run them on an idle machine)"
	@echo "make clean      remove what these commands left, but not $(VENV)"

setup: $(STAMP)

# pip installs from outside the environment (--python), since a bare machine may have no ensurepip to put a pip inside.
$(STAMP): pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(PY) install --quiet pip "setuptools>=77"
	$(PY) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $(STAMP)

demo: setup
	$(PY) -m bcgraph demo --out out/demo

test: setup
	$(PYTEST)

test-fast: setup
	$(PYTEST) -m "not slow"

nightly: setup
	$(PYTEST) --nightly

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(MAKE) --no-print-directory typecheck

# mypy cannot see that compiler/ is bcgraph.compiler, so it checks the package where a wheel has put it.
typecheck: setup
	@rm -rf $(WHEEL) build/lib build/bdist.*
	@$(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEEL) .
	@$(PY) -m zipfile -e $(WHEEL)/bcgraph-*.whl $(WHEEL)/site
	cd $(WHEEL)/site && $(abspath $(PY)) -m mypy --config-file $(CURDIR)/pyproject.toml \
		--cache-dir $(CURDIR)/.mypy_cache --package bcgraph

format: setup
	$(PY) -m ruff check --fix --select I .
	$(PY) -m ruff format .

docs: setup
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

# The peer of the benchmarks is no dependency of bcgraph; of what it asks for, this is what it imports.
bench: setup
	$(PY) -m pip install --quiet --no-deps spikingjelly loguru tqdm
	$(PY) -m benchmarks

clean:
	rm -rf build out dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find bcgraph compiler specs tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
