# SPDX-License-Identifier: Apache-2.0
# Every target sets up what it needs: Python >= 3.11 and make are enough. The environment is .venv, pinned by uv.lock.
# The targets for clusters (images, push, cluster, install, e2e) need Docker too; the scripts of e2e/ name what is missing.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
UV := UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON_DOWNLOADS=never $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help demo test lint types imports unit processes test-sim test-attacks fuzz audit sbom docs benchmarks clean images push cluster install e2e e2e-attacks e2e-down
# For the scripts: REGISTRY=registry.example/team VERSION=... BASE_IMAGE=... E2E_OFFLINE=0|1 KEEP=1, all optional.
export REGISTRY VERSION BASE_IMAGE BUILD_IMAGE E2E_OFFLINE KEEP HELM_ARGS

help: ## Show the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: .venv/.run ## A pool on this machine, and what it does when things go wrong (a minute at most)
	$(BIN)/python examples/demo.py

test: lint types imports unit processes ## Lint, types, import contracts and all tests (no root)

lint: .venv/.dev ## Style, by ruff
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/.dev ## Types, by mypy
	$(BIN)/mypy

imports: .venv/.dev ## Who may import whom, by import-linter
	$(BIN)/lint-imports

unit: .venv/.dev ## Unit and property tests, and the simulator
	$(BIN)/pytest -n 2 --ignore=tests/processes --ignore=tests/attacks

processes: .venv/.dev ## Running pools, killed and attacked; mostly waiting, so several at a time
	$(BIN)/pytest -n 3 --dist loadfile tests/processes

test-sim: .venv/.dev ## The simulator at length, and the branches of the machines [SIMULATION_SEEDS= SIMULATION_FROM=]
	rm -f .coverage.machines*
	$(BIN)/coverage run --rcfile=tests/simulation/coverage.toml -m pytest -q -n 2 tests/asap tests/enrp tests/identity tests/handlespace tests/simulation
	$(BIN)/coverage combine -q --rcfile=tests/simulation/coverage.toml
	$(BIN)/coverage json -q --rcfile=tests/simulation/coverage.toml
	PYTHONPATH=tests $(BIN)/python -m simulation.branches .coverage.machines.json
	$(BIN)/pytest -q -n 2 -m simulation tests/simulation

test-attacks: .venv/.dev ## The sixteen threats, launched at running pools, and at pools without the mechanism
	$(BIN)/pytest -n 2 --dist loadfile tests/attacks

FUZZ_SECONDS ?= 120
fuzz: .venv/.dev ## Fuzz all that reads from the network or a file, by atheris [FUZZ_SECONDS=120 FUZZ="--seed N --keep TARGET..."]
	$(UV) sync -q --locked --inexact --group fuzz --python $(BIN)/python
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) $(FUZZ)

audit: .venv/bin/uv ## Known vulnerabilities of what the images contain, by pip-audit; asks PyPI
	$(UV) export -q --locked --no-dev --extra operator --no-emit-project -o .audit.txt
	$(BIN)/uv tool run --from pip-audit==2.10.1 pip-audit --strict --disable-pip -r .audit.txt

sbom: .venv/bin/uv ## The Python packages of both images as CycloneDX, in sbom/
	mkdir -p sbom
	$(UV) export -q --locked --no-dev --format cyclonedx1.5 -o sbom/rserpool-node.cdx.json
	$(UV) export -q --locked --no-dev --extra operator --format cyclonedx1.5 -o sbom/rserpool-operator.cdx.json

docs: .venv/.dev ## Write what is made from the code: pages, the CRD, the chart's README
	$(BIN)/python docs/generate.py
	$(BIN)/python crds/generate.py
	$(BIN)/python crds/reference.py
	$(BIN)/python charts/readme.py

benchmarks: .venv/.dev ## The figures, measured on this machine; nothing else should run
	$(BIN)/python benchmarks/run.py

images: ## Build the images rserpool-node and rserpool-operator [REGISTRY= VERSION=]
	e2e/images.sh build

push: ## Push them, REGISTRY=registry.example/team
	e2e/images.sh push

cluster: ## A kind cluster with cert-manager, named rserpool
	e2e/cluster.sh

install: ## The images and the chart into that cluster
	e2e/install.sh

e2e: .venv/.dev ## End-to-end tests on a kind cluster of their own [KEEP=1 leaves it]
	e2e/run.sh use

e2e-attacks: .venv/.dev ## What attackers do on a cluster, and what is revoked, on one of their own [KEEP=1 leaves it]
	e2e/run.sh attacks

e2e-down: ## Remove that cluster
	e2e/down.sh

clean: ## Remove the environment and the caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install -q uv==$(UV_VERSION)

.venv/.run: uv.lock pyproject.toml | .venv/bin/uv
	$(UV) sync -q --locked --inexact --no-dev --python $(BIN)/python
	@touch $@

.venv/.dev: uv.lock pyproject.toml | .venv/bin/uv
	$(UV) sync -q --locked --inexact --python $(BIN)/python
	@touch $@ .venv/.run
