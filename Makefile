# Every target works on a fresh machine with Python 3.11+, make and git; it sets up what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
CODE := api kit operator router local cli tests hack bench examples

.PHONY: help setup demo test check fix fuzz generate cluster cluster-down images e2e e2e-long bench bench-operator soak

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## A .venv with everything for development, from the lock file

.venv/.ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mce needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say which with: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "python3 can't make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv sync --quiet --frozen --all-extras --all-groups --no-group fuzz --inexact
	@touch $@

demo: setup ## Two real models behind one endpoint, then a chain; no cluster needed
	@$(BIN)/python hack/demo/demo.py

test: setup ## All tests that need no cluster
	@$(BIN)/pytest -q -m "not e2e"

fuzz: SECONDS ?= 60
fuzz: setup ## Coverage-guided fuzzing of the router: make fuzz SECONDS=60 for each of requests and replies
	@$(BIN)/uv sync --quiet --frozen --all-extras --all-groups --inexact
	@mkdir -p .fuzz/requests .fuzz/replies
	@for kind in requests replies; do \
	  PYTHONPATH=tests $(BIN)/python tests/fuzz/harness.py $$kind -max_total_time=$(SECONDS) -max_len=4096 -timeout=20 \
	    -artifact_prefix=.fuzz/$$kind- .fuzz/$$kind tests/fuzz/corpus/$$kind || exit 1; \
	done

check: setup ## Lint, types, import contracts, generated files
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/ruff format --check --quiet $(CODE)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -n 4
	@$(BIN)/python hack/generate/crds.py --check
	@$(BIN)/python hack/generate/reasons.py --check
	@$(BIN)/uv lock --check --quiet
	@echo "check: all good"

fix: setup ## Formats, and repairs what can be repaired
	@$(BIN)/ruff check --fix --quiet $(CODE); $(BIN)/ruff format --quiet $(CODE)

generate: setup ## Writes what is made from the models and from docs/reasons: crds/, the chart's copy, mce explain's pages
	@$(BIN)/python hack/generate/crds.py
	@$(BIN)/python hack/generate/reasons.py

cluster: ## A real local Kubernetes: $KUBECONFIG (MCE_CLUSTER=existing), kind, or on this host
	@hack/cluster/cluster.sh up

cluster-down: ## Takes it down and leaves nothing behind
	@hack/cluster/cluster.sh down

images: ## Builds all images and loads them into the cluster
	@hack/images/images.sh build && hack/images/images.sh load

e2e: setup cluster images ## End-to-end tests on that cluster
	@# Those of the chart need helm, which came with the cluster.
	@PATH="$(CURDIR)/.cluster/bin:$$PATH" $(BIN)/pytest -q tests/unit/charts
	@$(BIN)/pytest -q -m "e2e and not long" --timeout 600 tests/e2e

e2e-long: setup cluster images ## The ones that take many minutes: every reason, faults, kills, scaling
	@$(BIN)/pytest -q -m "e2e and long" --timeout 900 tests/e2e

bench: setup ## The router beside nginx, HAProxy and Go, as ratios
	@$(BIN)/python bench/run.py

bench-operator: setup ## The operator with 1,000 endpoints on a control plane of its own (ENDPOINTS=, IDLE=)
	@$(BIN)/python bench/scale.py $(if $(ENDPOINTS),--endpoints $(ENDPOINTS)) $(if $(IDLE),--idle $(IDLE))

SECONDS ?= 600
WORKERS ?= 1

soak: setup ## The router for 10 minutes at full load with faults (SECONDS=, WORKERS=, SEED=)
	@PYTHONPATH=tests $(BIN)/python -m soak.run --seconds $(SECONDS) --workers $(WORKERS) $(if $(SEED),--seed $(SEED))
