# make: set up, simulate, fit both networks, execute the notebook.   make test: set up and test.
PYTHON ?= python3
BIN := .venv/bin

all: environment
	$(BIN)/python cann.py
	PYTHON=$(BIN)/python sh train.sh
	$(BIN)/jupyter execute --inplace test.ipynb

environment: .venv/installed

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

test: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

table: environment
	$(BIN)/python -m experiments.results

bench: environment
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.answer
	$(BIN)/python -m benchmarks.rivals
	$(BIN)/python -m benchmarks.estimator

clean:
	rm -rf .venv data runs

.PHONY: all environment test table bench clean
