# `make help` lists what there is.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo compare test check guest-test swarm-test images bench pypy limits-bench functions-bench calibrate clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.installed ## make .venv with everything (.venv/bin/fallow)

$(VENV)/.installed: pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh $(VENV)
	@touch $@

demo: setup ## set up, then the main job: a cluster on emulated harvest VMs under a trace
	@$(BIN)/fallow demo $(ARGS)

compare: setup ## the demo under every policy on the same seeds, side by side
	@$(BIN)/fallow compare $(ARGS)

test: setup ## set up, then every test
	@$(BIN)/python -m pytest $(ARGS)

check: setup ## lint, types, arrows between the rooms
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

guest-test: setup ## the cgroup tests where this machine is not: version 2, systemd, an ordinary user (in QEMU)
	@bash scripts/guest/test.sh $(ARGS)

swarm-test: setup ## the stack of several machines, on three emulated ones (root, cgroup v1; after `make images`)
	@TEST_FALLOW_SWARM=required $(BIN)/python -m pytest tests/swarm $(ARGS)

images: ## build the Docker images of the platform and of the runtimes
	@sh scripts/images.sh

bench: setup ## measure the warm path against the bare floor, what starts cost, and the speed of the simulator
	@$(BIN)/python -m loadtest.bench $(ARGS)
	@$(BIN)/python scripts/simulator_bench.py $(filter --json,$(ARGS))

pypy: setup ## make .pypy, a PyPy that simulates several times as fast (PYPY=pypy3.11)
	@PYPY="$(PYPY)" sh scripts/pypy.sh .pypy

limits-bench: setup ## measure what several controllers admit beyond a limit
	@$(BIN)/python -m loadtest.limits_bench $(ARGS)

functions-bench: setup ## measure the benchmark functions in real containers (ARGS=--write renews the tables)
	@$(BIN)/python -m loadtest.functions_bench $(ARGS)

calibrate: setup ## hold the generated traces against the published curves and renew docs/calibration.*
	@$(BIN)/fallow calibrate --out docs --page docs/calibration.md $(ARGS)

clean: ## remove what setup and the tools made
	@rm -rf $(VENV) .pypy .pytest_cache .mypy_cache .ruff_cache .hypothesis build ./*.egg-info
