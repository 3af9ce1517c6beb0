# `make help` lists what there is.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed ## make .venv with everything (.venv/bin/fallow)

$(VENV)/.installed: pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh $(VENV)
	@touch $@

demo: setup ## set up, then the main job: a cluster on emulated harvest VMs under a trace
	@$(BIN)/fallow demo $(ARGS)

test: setup ## set up, then every test
	@$(BIN)/python -m pytest $(ARGS)

check: setup ## lint, types, arrows between the rooms
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: setup ## measure the warm path against the bare floor, in one interleaved run
	@$(BIN)/python -m loadtest.bench $(ARGS)

clean: ## remove what setup and the tools made
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build ./*.egg-info
