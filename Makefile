# Everything the project does, one line each. `make lab` and `make test` work on a bare machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
CODE := src lab tests benchmarks tools

.PHONY: install lab test check fix bench docs kafka interpreters requirements clean help

help:          ## this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 22

install: .venv/installed ## the virtual environment in .venv, every version pinned with hashes

.venv/installed: requirements/dev.txt requirements/build.txt pyproject.toml lab/pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"shoal needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	@echo "installing into .venv, about a minute"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e lab
	@touch $@

lab: install   ## the payment company under an outage of auth: deep, shallow and guarded, side by side
	@$(BIN)/shoal lab run auth-outage --ladder deep,shallow,guarded --out out

test: install  ## the tests
	$(BIN)/python -m pytest

check: install ## format, lint, types, import contracts, docs up to date, tests
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/docs.py --check
	$(BIN)/python -m pytest -m "not lab and not server"

fix: install   ## format, and repair what the linter can
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: install ## what a guarded call costs and how it behaves, beside other libraries; BENCH=--write keeps the tables
	bash tools/bench.sh $(BENCH)

docs: install  ## write the generated pages again
	$(BIN)/python tools/docs.py

kafka:         ## Apache Kafka into .cache/kafka (needs Java 17+ and mvn), for `--kafka` and the tests
	bash tools/kafka/install.sh

interpreters: install ## the fast tests on every newer Python found on this machine
	bash tools/interpreters.sh

requirements: install ## pin again (the .in files say what, the .txt files say which)
	for f in build dev bench; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links requirements/$$f.in --output-file requirements/$$f.txt --upgrade; done

clean:         ## remove the environment and what was made
	rm -rf .venv out dist build .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
