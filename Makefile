# `make demo` and `make test` need Python 3.11 or later and make, nothing else.
VENV   ?= .venv
PYTHON ?= python3
PY     := $(VENV)/bin/python
SCALE  ?= full
ARGS   ?=
# One thread a process: a pool of OpenMP threads spinning on a busy machine slows a small network many times over.
export OMP_NUM_THREADS ?= 1

ifeq ($(SCALE),quick)
QUICK := trainer.max_epochs=2 data.fraction=0.1
endif

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-gpu sweep-cifar sweep-mnist sweep-all tensorboard lint format clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  SCALE=quick reduces a sweep, ARGS='seeds=3 trainer.max_epochs=30' adds overrides, VENV=... uses another environment"

install: $(VENV)/.installed ## Create the environment in .venv (about 5.5 GB, torch with it)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("ablate needs Python 3.11 or later") if sys.version_info < (3, 11) else None'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install ## Sweep dropout on built-in sample data: a table, curves and figures in about two minutes
	$(PY) train.py -m task=cifar data=sample dropout=0.2,0.3,0.5 optimizer.lr=0.01 trainer.max_epochs=6 $(ARGS)

test: install ## Run the fast tests
	$(PY) -m pytest -q -n 2 --dist loadfile $(ARGS)

test-slow: install ## Run the tests that take minutes
	$(PY) -m pytest -q -m slow $(ARGS)

test-gpu: install ## Run the tests that need a CUDA device
	$(PY) -m pytest -q -m gpu $(ARGS)

sweep-cifar: install ## Regenerate the tables of report A, CIFAR-10
	$(PY) train.py -m experiment='glob(cifar/*)' $(QUICK) $(ARGS)

sweep-mnist: install ## Regenerate the tables of report B, MNIST
	$(PY) train.py -m experiment='glob(mnist/*)' $(QUICK) $(ARGS)

sweep-all: sweep-cifar sweep-mnist ## Regenerate every table

tensorboard: install ## Show the curves of all sweeps
	$(VENV)/bin/tensorboard --logdir multirun

lint: install ## Check style
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

format: install ## Mend style
	$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

clean: ## Remove the environment and caches; keeps multirun/ and outputs/
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist src/*.egg-info
