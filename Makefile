# make: set up, simulate, fit both networks, execute the notebook.
# make test: set up, and the quick tests (some minutes).   make check: all tests.
# make kernels: the quick science tests as other processors and numbers of threads compute them, which `make check` does not.
# make torus: simulate grid cells, fit them, execute their notebook.   make pages: all experiments and both notebooks anew.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

all: environment
	$(BIN)/python cann.py
	PYTHON=$(BIN)/python sh train.sh
	$(BIN)/jupyter execute --inplace test.ipynb

environment: .venv/installed

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

.venv/dev: .venv/installed requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(PYTEST) -m "not slow"

check: lint .venv/pynapple
	$(PYTEST)

# numpy's OpenBLAS has one kernel for processors with AVX-512 and another; for the latter torch does without AVX-512 too
SKYLAKEX := OPENBLAS_CORETYPE=SkylakeX
HASWELL := OPENBLAS_CORETYPE=Haswell MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2
SCIENCE := $(BIN)/python -m pytest -m "not slow" tests/science
ONE := OMP_NUM_THREADS=1 $(SCIENCE) -n 2 --dist worksteal
TWO := OMP_NUM_THREADS=2 $(SCIENCE)
OWN = $$($(BIN)/python -c "import numpy, threadpoolctl as t; print(t.threadpool_info()[0]['architecture'])")

# one thread with the processor's own kernel is how `make check` runs them
kernels: .venv/dev
	$(HASWELL) $(TWO)
	test "$(OWN)" = Haswell || $(HASWELL) $(ONE)
	if grep -qs avx512bw /proc/cpuinfo; then $(SKYLAKEX) $(TWO) && { test "$(OWN)" = SkylakeX || $(SKYLAKEX) $(ONE); }; \
	else echo "Not tested: the kernel for AVX-512, which this processor does not have."; fi

.venv/pynapple: .venv/dev docs/requirements-pynapple.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt -r docs/requirements-pynapple.txt
	touch $@

torus: environment
	$(BIN)/python cann.py --circuit grid --trials 50
	$(BIN)/python train.py --data data/grid.npz --out runs/grid --overwrite
	$(BIN)/jupyter execute --inplace experiments/grid/torus.ipynb

pages: all torus
	$(BIN)/python -m experiments

clean:
	rm -rf .venv data/*.npz data/*.gif runs

.PHONY: all environment lint test check kernels torus pages clean
