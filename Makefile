# The commands of the project. Each sets up what it needs first, so a bare clone will do.
SHELL := /bin/bash
BIN := .venv/bin
PYTEST := $(BIN)/pytest
# Tests of one file stay in one process, so that they share mounts and servers; each process has servers of its own.
# Three of them keep two cores busy: a quarter of the time a test waits for a disk, a timeout or the end of a process.
# A process that dies ends the run: pytest-xdist would wait for ever for the files it gave to it.
PARALLEL := -n $(or $(JOBS),3) --dist loadfile --max-worker-restart 0

# Each process of a run would compile all of fusepkg again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-heavy check compiled fmt lint types imports sizes stress coverage bench docs figures record lock release clean

help: ## Show these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install missing system packages and make .venv (others do this by themselves)
	@scripts/setup.sh test

demo: ## Publish a folder, mount it, use it, unmount: no account, no server
	@scripts/setup.sh run
	@scripts/demo.sh

test: setup ## Everything continuous integration runs: check, then every test but the stress tests
	@$(MAKE) --no-print-directory -j 2 --output-sync=target types compiled lint imports sizes
	@$(PYTEST) $(PARALLEL)

test-heavy: ## The tests that need PyTorch, Spark, Dask, Ray, Zarr, DVC, in environments of their own (.venv-heavy, .venv-dvc)
	@scripts/setup.sh heavy
	@scripts/setup.sh dvc
	@PATH="$$PATH:$$PWD/.venv-dvc/bin" .venv-heavy/bin/pytest tests/heavy
	@PATH="$$PATH:$$PWD/.venv-dvc/bin" .venv-heavy/bin/pytest tests/docs/test_commands.py -k "torch or spark or dvc"

check: lint types imports sizes ## The quick part of test: everything but running the code

# Beside mypy, which takes one core: else each process of a run compiles all modules of a fresh clone by itself. What
# cannot be imported is reported by the run.
compiled: setup
	@$(PYTEST) --collect-only -q -p no:cacheprovider >/dev/null 2>&1 || true

fmt: setup ## Format the code and mend what can be mended by rule
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

lint: setup ## Style and common bugs
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

types: setup ## mypy --strict
	@$(BIN)/mypy

imports: setup ## The direction of imports (docs/design/architecture.md)
	@$(BIN)/lint-imports

sizes: setup ## No module over 500 lines, no function over 60, no two classes of one name
	@$(BIN)/python scripts/check_sizes.py

stress: setup ## The long tests: many readers, kills and evictions
	@$(PYTEST) -m stress --timeout 0

coverage: setup ## Which lines the tests run, subprocesses included; fails below the floor in pyproject.toml
	@$(PYTEST) $(PARALLEL) --cov --cov-report=html --cov-report=term

bench: ## Measure beside rclone, JuiceFS, s3fs, quilt3 and the disk, into docs/benchmarks.md: ROUNDS=3 ROWS=peers,... QUICK=1
	@scripts/setup.sh bench
	@$(BIN)/python -m bench $(if $(QUICK),--rounds 1 --rows $(or $(ROWS),peers) --scale $(or $(SCALE),0.02),\
	  --rounds $(or $(ROUNDS),3) --rows $(or $(ROWS),all) --scale $(or $(SCALE),1) $(if $(ROWS)$(SCALE),,--page docs/benchmarks.md))

docs: setup ## Write the pages of docs/reference and docs/man that come from the code
	@$(BIN)/python scripts/write_commands_and_errors.py
	@$(BIN)/python scripts/write_man_page.py
	@$(BIN)/python scripts/write_settings.py

lock: setup ## Pin the newest releases that pyproject.toml allows, in requirements.lock
	@$(BIN)/uv pip compile --quiet pyproject.toml --group dev --group bench --universal --python-version 3.11 \
	  --upgrade --no-header --no-annotate --output-file requirements.lock

figures: setup ## Draw the figures of the guides to labels, datapools and datasets, below docs/figures
	@$(BIN)/python scripts/draw_figures.py

record: setup ## Record docs/demo.svg, the session at the top of the README
	@$(BIN)/python scripts/record_demo.py

release: setup ## Build and try the distributions of the version in pyproject.toml (docs/releasing.md)
	@scripts/release.sh

clean: ## Remove .venv and everything generated
	rm -rf .venv .venv-heavy .venv-dvc .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist htmlcov .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
