# Two commands on a fresh machine: `make demo` and `make test`. Each makes the environment first.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PHOTO  := runs/photograph
# constraints.txt pins every version, torch's CPU build among them.
PIP    := $(BIN)/python -m pip --disable-pip-version-check
# Further options for pytest, for example OPTIONS=--require-browser.
OPTIONS ?=
# Which of tests/kernels.py's settings; all of them if none is named.
KERNELS ?=

.PHONY: help env demo test test-slow torture coverage test-kernels lint format docs notebooks bench clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

env: $(STAMP)  ## Make the environment in .venv

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## Reproduce the paper's experiment, then explain and solve a real problem
	$(BIN)/stepfold run dugd -o runs/dugd --force
	$(BIN)/python examples/photograph.py blur $(PHOTO)
	$(BIN)/stepfold explain $(PHOTO)/blur.npz --rhs $(PHOTO)/blurred.npy --ridge 0.002 --picture 300x256 -o $(PHOTO)/report --force
	$(BIN)/stepfold solve $(PHOTO)/blur.npz $(PHOTO)/blurred.npy --ridge 0.002 --rtol 1e-6 -o $(PHOTO)/restored.npy --force
	$(BIN)/python examples/photograph.py compare $(PHOTO)
	@echo "Reports to open in a browser: runs/dugd/report.html and $(PHOTO)/report/report.html"

test: $(STAMP)  ## Run the tests (a few minutes); gets a Chromium for those that need one
	$(BIN)/python tests/chromium.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(OPTIONS)

test-slow: $(STAMP)  ## Run the long tests as well
	$(BIN)/python tests/chromium.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'slow or not slow' $(OPTIONS)

torture: $(STAMP)  ## Kill, starve and overload it, and judge verdicts, read hostile files (hours)
	$(BIN)/python tests/torture/faults.py
	$(BIN)/python tests/torture/verdicts.py --count 10000
	$(BIN)/python tests/torture/load.py
	$(BIN)/python tests/arguments.py
	$(BIN)/python tests/hostile.py --inputs 1000000

coverage: $(STAMP)  ## Run the tests and say which lines none of them reaches
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --cov --cov-report=term-missing $(OPTIONS)

test-kernels: $(STAMP)  ## Run what computes as other processors would (KERNELS="Nehalem Zen")
	$(BIN)/python tests/kernels.py $(KERNELS)

lint: $(STAMP)  ## ruff, mypy, the import layers and the project's own description
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/sp-repo-review .

format: $(STAMP)  ## Format the code and sort the imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebooks: $(STAMP)  ## Make the notebooks of examples/ anew, with their outputs
	$(BIN)/python examples/notebooks.py

docs: $(STAMP)  ## Build the documentation into docs/_build/html
	STEPFOLD_DOCS_REPORT=1 $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(STAMP)  ## Time stepfold beside its rivals (half an hour); the table of solving goes into docs/
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training_memory.py
	$(BIN)/python benchmarks/solve.py --write docs/reference/benchmarks.md
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/command_line.py
	$(BIN)/python benchmarks/ridge.py
	$(BIN)/python benchmarks/rivals.py
	$(BIN)/python benchmarks/multigrid.py --write docs/guides/multigrid.md
	$(BIN)/python benchmarks/optimisers.py --write docs/guides/optimisers.md
	$(BIN)/python benchmarks/guard.py
	$(BIN)/python benchmarks/bounds.py
	$(BIN)/python benchmarks/orders.py
	$(BIN)/python benchmarks/shrinkage.py

clean:  ## Remove the environment, run folders and build products
	rm -rf $(VENV) build dist docs/_build docs/reference/api docs/examples/notebooks runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
