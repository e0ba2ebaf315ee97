PYTHON ?= python3
WORKERS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help bench site speed test honest interpret interpret-3.6 cuda-shim compile-all gpu-triton gpu-cuda gpu-sanitizer gpu-peers gpu-measure lint types format clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'ARGS="…" is passed on: make test ARGS="-k floors", make bench ARGS=speed'

bench: $(READY) ## the quick profile of every suite, then a report
	$(BIN)/fwpbench run --profile quick $(ARGS)

site: $(READY) ## the leaderboard in site/, from results/
	$(BIN)/fwpbench submit-check results/*/
	$(BIN)/fwpbench report --site site results/*/

speed: $(READY) ## chunked against the token loop, rule by rule
	$(BIN)/python -m pytest benchmarks/test_chunked.py --benchmark-columns=min,median,rounds $(ARGS)

test: $(READY) ## all tests
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

honest: $(READY) ## 9,000 seeds of honest arithmetic go through the gate: eight minutes
	$(BIN)/python -m pytest benchmarks/test_honest_seeds.py -n $(WORKERS) -rP $(ARGS)

interpret: $(READY) ## Triton kernels, interpreted and compiled for a GPU; adapters of peers
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers,triton]'
	TRITON_INTERPRET=1 $(BIN)/python -m pytest -n $(WORKERS) tests/test_peers.py tests/test_triton*.py $(ARGS)

cuda-shim: $(READY) ## CUDA kernels on a CPU: g++, a fiber a thread, every access watched; compiled for GPUs too
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cuda]'
	FWPBENCH_CUDA_ON_CPU=1 $(BIN)/python -m pytest -n $(WORKERS) tests/test_cuda*.py $(ARGS)

OLDEST_TRITON := $(VENV)/triton-3.6

interpret-3.6: $(READY) ## a selection of the same with Triton 3.6, whose interpreter needs an older numpy
	test -d $(OLDEST_TRITON)/triton || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(OLDEST_TRITON) triton==3.6.0 'numpy<2.4'
	PYTHONPATH=$(OLDEST_TRITON) TRITON_INTERPRET=1 $(BIN)/python -m pytest -n $(WORKERS) tests/test_triton*.py -m oldest_triton $(ARGS)

compile-all: $(READY) ## every Triton kernel for every GPU: hours, nothing twice; ARGS="--arch 90"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[triton]'
	$(BIN)/python -m tests.compile_all --workers $(WORKERS) $(ARGS)

PEERS := torch-sdpa,torch-flex,fla-chunk,fla-fused-chunk,fla-recurrent
GPU := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers,triton]'

#: Each of these ends within nine minutes. Thousands of kernels are compiled for an agreement, by all
#: cores, and kept: what its budget leaves, the same command goes on with.
#: make gpu-triton PROFILE=standard asks every dtype and every family of inputs.
PROFILE ?= quick
GPU_WORKERS ?= $(shell n=$$(nproc); echo $$((n > 16 ? 16 : n)))
go_on = if test -e runs/$(1)/plan.json; then $(BIN)/fwpbench run --resume runs/$(1) --budget 4m $(3); \
    else $(BIN)/fwpbench run $(2) --device cuda --budget 4m --output runs/$(1) $(3); fi
agree = $(call go_on,gpu-$(1)-agreement-$(PROFILE),agreement --profile $(PROFILE) --implementations $(1),--workers $(GPU_WORKERS))
targets = $(call go_on,gpu-$(1),targets $(3) --plugin benchmarks/targets.py --plugin benchmarks/official_kernel.py --implementations $(2)$(comma)official-cuda$(comma)$(PEERS),$(ARGS))
comma := ,
FEW := inputs=normal norm=sum phi=elu+1 direction=forward+backward

gpu-triton: $(READY) ## on a GPU: agreement of the Triton kernels, then their targets beside peers
	$(GPU)
	$(call agree,triton)
	$(call targets,triton,triton)
	$(BIN)/python benchmarks/targets.py runs/gpu-triton

gpu-cuda: $(READY) ## on a GPU: agreement of the CUDA kernels, then their targets beside peers
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cuda,peers,triton]'
	$(call agree,cuda)
	$(call targets,cuda,cuda$(comma)triton,first-call)
	$(BIN)/python benchmarks/targets.py runs/gpu-cuda cuda

gpu-sanitizer: $(READY) ## on a GPU: Triton's and CUDA's kernels under compute-sanitizer, few and small
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cuda,triton]'
	@command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not installed: it comes with the CUDA toolkit"; exit 1; }
	for tool in memcheck racecheck synccheck; do \
	    compute-sanitizer --tool $$tool --error-exitcode 1 --target-processes all \
	    $(BIN)/fwpbench run agreement --implementations triton,cuda --device cuda --where "$(FEW)" --timeout 2m --budget 170s --output runs/gpu-sanitizer/$$tool || exit 1; done

gpu-peers: $(READY) ## on a GPU: agreement, museum and speed of the peers beside ours
	$(GPU)
	$(BIN)/fwpbench run agreement museum speed --implementations triton,chunked,$(PEERS) --device cuda --budget 8m --output runs/gpu-peers $(ARGS)

gpu-measure: $(READY) ## on a GPU: laws of its clocks, caches and domains, then a run that fills every field
	$(GPU)
	$(BIN)/python -m pytest tests/test_gpu_measure.py -q
	$(BIN)/fwpbench run speed memory first-call longest --domains all --implementations triton,chunked,torch-sdpa --where "T<=1024" --device cuda --budget 6m --output runs/gpu-measure $(ARGS)

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
