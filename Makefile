PYTHON ?= python3
WORKERS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help bench speed test interpret lint types format clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'ARGS="…" is passed on: make test ARGS="-k floors", make bench ARGS=speed'

bench: $(READY) ## the quick profile of every suite, then a report
	$(BIN)/fwpbench run --profile quick $(ARGS)

speed: $(READY) ## chunked against the token loop, rule by rule
	$(BIN)/python -m pytest benchmarks/test_chunked.py --benchmark-columns=min,median,rounds $(ARGS)

test: $(READY) ## all tests
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

interpret: $(READY) ## the Triton kernels: interpreted, and compiled for a GPU
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[triton]'
	TRITON_INTERPRET=1 $(BIN)/python -m pytest -n $(WORKERS) tests/test_triton.py tests/test_triton_wide.py tests/test_triton_compile.py $(ARGS)

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict
	$(BIN)/mypy -p fwpbench

format: $(READY) ## rewrite the code as `make lint` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove builds and caches; .venv and runs/ stay
	rm -rf build dist .tox .asv .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "FWPBench needs Python 3.11 or newer and $(PYTHON) is %d.%d: make PYTHON=python3.11 …" % sys.version_info[:2])'
	@echo "Setting up $(VENV) with the versions of constraints.txt: a minute or two, about 1.5 GB"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	@touch $@
