# `make demo` and `make test` need nothing but Python 3.10 or later: they make .venv with the versions in constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
MUTATIONS ?= 100000 # programs that `make sanitize` mutates
WORKERS ?= 2 # processes of the tests, each with a share of the cores and up to 2 GB

.PHONY: help demo docs test test-fast sanitize arm bench matrix proof lint wheel clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

demo: $(STAMP) ## the main job: two bundles, labels for a video, a report, all in demo-out/
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh demo-out

test: $(STAMP) ## all tests; those that need a browser or a GPU skip if there is none
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not timing"
	$(BIN)/python -m pytest -m timing

test-fast: $(STAMP) ## the tests that take less than a second each: under 3 minutes, for the loop while writing
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not timing and not slow"

sanitize: $(STAMP) ## the native engine's tests and 100,000 mutated programs with AddressSanitizer and UBSan; needs gcc or clang
	sh scripts/sanitize.sh $(BIN)/python $(MUTATIONS)

arm: $(STAMP) ## the native engine for ARM under emulation, bit by bit against x86-64; installs qemu-user-static
	sh scripts/try_arm.sh $(BIN)/python

bench: $(STAMP) ## the ratios of docs/benchmarks.md, measured here; installs the peers
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt MNN ncnn pnnx
	$(BIN)/python -m tests.benchmarks

matrix: $(STAMP) ## every model exported to every target at full size, what is missing in docs/matrix.md; hours for all
	$(BIN)/python -m tests.matrix

proof: $(STAMP) ## train a narrow model of every paper, quantize, compare: docs/measured/proof.md; hours
	$(BIN)/python -m tests.proof

docs: $(STAMP) ## the documentation with the API reference, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lint: $(STAMP) ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

wheel: $(STAMP) ## wheels for x86-64 and aarch64 from the commit, in dist/; the first is tried in a bare environment
	sh scripts/try_wheel.sh $(BIN)/python

clean: ## remove what the other targets made; the data in ~/.cache/edgeact stays
	rm -rf $(VENV) build dist demo-out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		edgeact/runtime/native/libedgeact_native.so

$(STAMP): pyproject.toml setup.py constraints.txt $(wildcard edgeact/runtime/native/csrc/*.[ch] edgeact/runtime/native/csrc/*/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt \
		-e '.[video,onnxruntime,openvino,tensorrt-rtx,evaluate,export,search,cluster,report,docs,dev]'
	touch $@
