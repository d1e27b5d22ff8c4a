# Two commands are all a newcomer needs: `make demo` and `make test`; both set up what they need.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: install demo test faults check format bench claims clean

install: $(READY)

# torch comes first and pinned: the newest one would bring gigabytes of CUDA to a CPU machine.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/bifocal demo

test: install
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# The long form of what the tests inject, ten to fifteen minutes: the table of docs/reliability.md.
faults: install
	$(BIN)/python -m tests.faults

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python -m benchmarks

# The paper's claims, re-run small: about an hour on two quiet cores where nothing has been trained.
# Writes docs/claims.md; runs that are complete are read.
claims: install
	$(BIN)/python -m experiments --jobs 2

clean:
	rm -rf $(VENV) build dist *.egg-info
