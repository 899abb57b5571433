# `make demo` and `make test` do all set-up themselves: a virtual environment in .venv, built once
# and again when pyproject.toml changes. Needs Python 3.11 and nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
OLD := .venv-tflite
PFL := .venv-pfl
FLOWER := .venv-flower
OUT ?= out
STAMP := $(VENV)/.ready
export TF_CPP_MIN_LOG_LEVEL ?= 3
export FLWR_TELEMETRY_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup demo superlink test lint types imports unit runtimes fuzz bench bench-simulation leaderboard clean

help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(STAMP)  ## Build the virtual environment

demo: $(STAMP)  ## 798 real shopping histories learn together; report in out/demo/
	$(BIN)/homebody demo --out $(OUT)/demo --json $(OUT)/demo/demo.json

superlink: $(STAMP)  ## One round over a real SuperLink: TLS, node keys, hostile devices
	$(BIN)/homebody demo --superlink --out $(OUT)/superlink --json $(OUT)/superlink/round.json

test: $(STAMP) lint types imports unit  ## All that CI runs

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/pytest

# The device's runtime port on tflite-runtime too, in an environment of its own (numpy < 2).
runtimes: $(STAMP)  ## The runtime's contract tests on tflite-runtime 2.14
	@test -x $(OLD)/bin/python || $(PYTHON) -m venv $(OLD)
	$(OLD)/bin/python -m pip install --quiet tflite-runtime==2.14.0 'numpy<2' cryptography pytest hypothesis
	@mkdir -p $(OUT)
	$(BIN)/python -m models.export --rank 4 --batch 8 --out $(OUT)/test-graph.tflite
	HOMEBODY_TEST_GRAPH=$(OUT)/test-graph.tflite $(OLD)/bin/python -m pytest -p no:cacheprovider \
	  tests/client_sdk/intelligence/test_litert.py tests/client_sdk/intelligence/test_item_training.py

fuzz: $(STAMP)  ## Twenty times the fuzzing that the tests do
	HOMEBODY_FUZZ_TIMES=20 $(BIN)/pytest tests/client_sdk/fuzz

bench: $(STAMP)  ## Ratios against named peers; tables and JSON in out/bench/
	$(BIN)/python -m benchmarks --out $(OUT)/bench

# Peers live in environments of their own; pfl's torch is ours, or pip would fetch a larger one.
bench-simulation: $(STAMP)  ## Our simulation beside pfl-research and Flower's, interleaved
	@test -x $(PFL)/bin/python || $(PYTHON) -m venv $(PFL)
	$(PFL)/bin/python -m pip install --quiet torch==2.13.0
	$(PFL)/bin/python -m pip install --quiet 'pfl[pytorch]==0.6.0'
	@test -x $(FLOWER)/bin/python || $(PYTHON) -m venv $(FLOWER)
	$(FLOWER)/bin/python -m pip install --quiet 'flwr[simulation]>=1.41,<1.42'
	$(BIN)/python -m benchmarks.simulation --pfl $(PFL)/bin/python --flower $(FLOWER)/bin/python \
	  --json benchmarks/results/simulation.json

leaderboard: $(STAMP)  ## Private recommendation beside its peers; writes docs/leaderboard.md
	@mkdir -p $(OUT)
	$(BIN)/python -m benchmarks.leaderboard --all --json $(OUT)/leaderboard.json --write docs/leaderboard.md

clean:  ## Remove the virtual environment and every output
	rm -rf $(VENV) $(OLD) $(PFL) $(FLOWER) $(OUT) build dist *.egg-info
