# `make help` lists what there is. Every target sets up what it needs.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup
CODE := $(wildcard src tests bench demo)
LOCK := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock"

export PYTHON

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## run the main job on real files, and show what was proven
	@scripts/setup demo
	@$(BIN)/python -m demo

.PHONY: test
test: ## all checks and all tests
	@scripts/setup test
	@$(MAKE) static
	@$(PYTEST)

.PHONY: check
check: env static ## format, lint, types, import contracts, fast tests
	@$(PYTEST) -m "not slow and not real"

.PHONY: serve
serve: ## run the daemon in the foreground
	@scripts/setup serve
	@$(BIN)/scrubjay serve

.PHONY: bench
bench: ## measure side by side with nbdkit and qemu-nbd
	@scripts/setup bench
	@$(BIN)/python -m bench

.PHONY: env
env: ## make .venv from the lock, anew only if the lock changed
	@scripts/setup env

.PHONY: static
static: env
	@$(BIN)/ruff format --check --quiet $(CODE)
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/mypy --no-error-summary $(CODE)
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: env ## format the code, and fix what ruff can fix
	@$(BIN)/ruff format --quiet $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

.PHONY: lock
lock: env ## pin the newest versions in both lock files
	@$(LOCK) --upgrade --group dev -o requirements-dev.lock
	@$(LOCK) --upgrade -c requirements-dev.lock -o requirements.lock

.PHONY: changelog
changelog: env ## compose CHANGELOG.md from changelog.d: make changelog VERSION=0.1.0
	@$(BIN)/towncrier build --yes --version "$(or $(VERSION),$(error VERSION is not set))"
