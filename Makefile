# Everything here works in a fresh clone; nothing is installed outside .venv.
PYTHON ?= python3
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
# Stamps: the environment is made again when what it is made from changes.
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed

.PHONY: demo test backends lint bench clean

demo: $(RUN)  ## serve a sample workspace on 127.0.0.1:$(PORT)
	@$(BIN)/workspace-gateway demo --port $(PORT)

test: $(DEV)  ## everything that can be tested on this machine
	-@$(MAKE) --no-print-directory backends
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

backends:  ## foreign servers that tests talk to, from PyPI and npm
	@PYTHON=$(PYTHON) tests/backends.sh

lint: $(DEV)  ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(DEV)  ## side by side with the peers; takes a while
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.benchmarks $(ARGS)

clean:
	rm -rf $(VENV) .demo .bench .backends

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(RUN): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt -e '.[test,lint]'
	@touch $@ $(RUN)
