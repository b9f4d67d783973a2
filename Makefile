# Everything a person types. `make` alone installs; `make help` lists.
PY ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := install
.PHONY: help install lock format check test slow faults demo dev schemas bench

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: .venv/installed ## create the virtual environment and the turnstile command
.venv/installed: requirements.lock pyproject.toml
	$(PY) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock: ## resolve the dependencies anew into requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --all-extras --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --group image -c requirements.lock pyproject.toml -o deploy/requirements.lock

format: install ## rewrite the code in the house's format
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

check: install ## lint, types, imports and the pure tests (under 2 minutes)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not stack and not slow"

test: check ## check, then the tests on a real broker and a real database (under 18 minutes)
	$(BIN)/pytest -q -n 2 --dist loadfile -m "stack and not slow"

slow: install ## the long forms
	HYPOTHESIS_PROFILE=slow $(BIN)/pytest -q -n 2 -o timeout=3600 tests/domain tests/handlers -m "not stack"
	$(BIN)/pytest -q -m slow
	$(BIN)/python -m tests.simulation --seeds 20000 --jobs 2 --state .turnstile/simulation.json

faults: install ## kill, pause, cut and fill everything under load until the total is reached; goes on where it stopped
	$(BIN)/python -m tests.faults.run

demo: install ## see real workflows run through a real broker and a real database
	$(BIN)/turnstile demo

dev: install ## the service with its embedded broker and database, until Ctrl-C
	$(BIN)/turnstile dev

schemas: install ## write contracts/schemas from the models
	$(BIN)/python -m contracts.export

bench: install ## durable transitions per second on this machine
	$(BIN)/turnstile bench
