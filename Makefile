# `make demo` and `make test` need Python 3.11 or later and make, nothing else.
VENV   ?= .venv
PYTHON ?= python3
PY     := $(VENV)/bin/python
PYTHONS ?= 3.11 3.12 3.13 3.14
SCALE  ?= full
ARGS   ?=
# One thread a process: a pool of OpenMP threads spinning on a busy machine slows a small network many times over.
export OMP_NUM_THREADS ?= 1

SEG := brain gland lesion fcn ventricle
# The images of sweep-receptive: by default those of the first of these sets that is there.
DATA   := $(or $(RETABLE_DATA),data)
IMAGES  = $(firstword $(wildcard $(addprefix $(DATA)/,pet/oxford-iiit-pet/images voc/VOCdevkit/VOC2012/JPEGImages \
          camvid/val isic2016/ISBI2016_ISIC_Part1_Test_Data)))

# What SCALE=quick adds to a task's sweep. All of sweep-seg is to take about twenty minutes on two CPU cores, so that
# where a step of the published network takes seconds the network and the images are smaller, too. (No data.fraction
# for ventricle, where E.1 sets it; and none of its encoders, E.6, which are of one size.)
ifeq ($(SCALE),quick)
QUICK_cifar     := trainer.max_epochs=2 data.fraction=0.1
QUICK_mnist     := trainer.max_epochs=2 data.fraction=0.1
QUICK_brain     := trainer.max_epochs=2 data.fraction=0.05 'model.widths=[16,32,64,128,128]'
QUICK_gland     := trainer.max_epochs=5
QUICK_lesion    := trainer.max_epochs=2 data.fraction=0.25 data.size=64
QUICK_fcn       := trainer.max_epochs=2 data.fraction=0.05 trainer.limit_val_batches=0.1 data.size=112 \
                   model.backbone=mobilenet_v2 model.head=null
QUICK_wildlife  := trainer.max_epochs=2 data.fraction=0.1 data.shorter=192 data.longer=320 model.backbone=resnet18 \
                   model.width=64 model.weights=none
QUICK_ventricle := trainer.max_epochs=3 data.size=64 model.width=8
FILES_ventricle := glob(ventricle/*, exclude=ventricle/encoders)
QUICK_receptive := --top 3 --stride 32
endif

.DEFAULT_GOAL := help
.PHONY: help install demo test test-pythons compose-pythons sweep-pythons test-lowest test-integrations test-pages test-browser test-slow test-slow-short test-faults test-cluster fuzz test-gpu sweep-cifar sweep-mnist sweep-seg $(SEG:%=sweep-%) sweep-detect \
	sweep-receptive sweep-all view tensorboard docs lint format clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  SCALE=quick reduces a sweep, ARGS='seeds=3 trainer.max_epochs=30' adds overrides, VENV=... uses another environment"
	@echo "  ARGS_lesion='model.weights=mobilenet_v2.pth' adds overrides to one task's part of sweep-seg"

install: $(VENV)/.installed ## Create the environment in .venv (about 5.5 GB, torch with it)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("retable needs Python 3.11 or later") if sys.version_info < (3, 11) else None'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install ## Sweep dropout on built-in sample data: a table, curves and figures in about a minute
	$(PY) train.py -m task=cifar data=sample dropout=0.2,0.3,0.5 optimizer.lr=0.02 trainer.max_epochs=10 $(ARGS)

test: install ## Run the fast tests
	$(PY) -m pytest -q -n 2 --dist loadfile $(ARGS)

test-pythons: ## Run the fast tests on each of PYTHONS that is installed, in .venv-3.12 and so on (5.5 GB each)
	@for version in $(PYTHONS); do \
	  if ! python$$version -c '' 2>/dev/null; then echo "Python $$version: not installed here, left out"; continue; fi; \
	  echo "Python $$version"; $(MAKE) test VENV=.venv-$$version PYTHON=python$$version || exit 1; \
	done

compose-pythons: install ## Compose all of conf/ on each of PYTHONS that is installed and by Hydra's pre-release (23 MB each)
	$(PY) -m tests.composed --pythons $(PYTHONS) --next

sweep-pythons: install ## Sweep and make a table on each of PYTHONS that is installed: the same figures (1.5 GB each for a minute)
	$(PY) -m tests.swept --pythons $(PYTHONS)

test-lowest: ## Run the fast tests with the lowest versions that pyproject.toml allows, in .venv-lowest (5.5 GB)
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt -e '.[dev]'
	.venv-lowest/bin/python -m pytest -q -n 2 --dist loadfile $(ARGS)

# The tests of what other packages do with a run; one that is skipped fails, as all of them are installed here.
INTEGRATIONS := tests/run/test_loggers.py tests/sweep/test_search.py tests/sweep/test_launchers.py tests/test_every_yaml.py
test-integrations: install ## Run the tests with W&B, MLflow, Optuna and Hydra's launchers; installs them (450 MB)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,integrations]'
	$(PY) -m pytest -q -m 'not gpu' -n 2 --dist load --no-skips $(INTEGRATIONS) \
	  -k 'test_loggers or test_search or test_launchers or wandb or mlflow' $(ARGS)

test-pages: install ## Follow README and docs/ command by command, and make projects of one's own (minutes)
	$(PY) -m pytest -q -m pages -n 2 --dist load $(ARGS)

test-browser: install ## Use the tables' pages in a real browser: apt-get install chromium; installs playwright
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,browser]'
	$(PY) -m pytest -q tests/report/test_browser.py tests/report/test_pages_used.py $(ARGS)

test-slow: install ## Run the tests that take minutes
	$(PY) -m pytest -q -m slow $(ARGS)

# The slow tests that are not of hours, large sets or benchmarks, so that they are run with every change.
SLOW_SHORT := tests/test_wheel.py tests/test_every_yaml.py tests/config tests/commands tests/run/test_ddp.py tests/run/test_foreign_ddp.py \
	tests/run/test_ddp_faults.py tests/run/test_nodes.py \
	tests/run/test_fused_runs.py tests/sweep/test_cluster.py tests/sweep/test_compared.py tests/sweep/test_forkserver.py \
	tests/sweep/test_fuse.py tests/sweep/test_hydra.py tests/sweep/test_workers.py
test-slow-short: install ## Run the shorter ones of them
	$(PY) -m pytest -q -m slow -n 2 --dist loadfile $(SLOW_SHORT) $(ARGS)

test-faults: install ## Kill sweeps 1,000 times, let each file operation fail, and the power go (hours)
	FAULT_KILLS=1000 FAULT_EPOCHS=20 FAULT_EVERY=1 FAULT_POWER=1000 $(PY) -m pytest -q -s -m slow tests/sweep/test_faults.py $(ARGS)

fuzz: install ## Read mutated files: FORMAT=png COUNT=10000 SEED=0; all formats without FORMAT
	$(PY) -m tests.fuzz $(FORMAT) --count $(or $(COUNT),10000) --seed $(or $(SEED),0)

test-cluster: install ## Sweep on a SLURM of one node (as root: apt-get install slurm-wlm munge) and on Ray's local cluster
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,slurm,ray]'
	if test $$(id -u) = 0 && command -v apt-get >/dev/null && ! command -v slurmctld >/dev/null; then \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends slurm-wlm munge; fi
	$(PY) -m pytest -q -m cluster tests/cluster $(ARGS)

test-gpu: install ## Run the tests that need a CUDA device
	$(PY) -m pytest -q -m gpu $(ARGS)

sweep-cifar: install ## Regenerate the tables of report A, CIFAR-10
	$(PY) train.py -m experiment='glob(cifar/*)' $(QUICK_cifar) $(ARGS)

sweep-mnist: install ## Regenerate the tables of report B, MNIST
	$(PY) train.py -m experiment='glob(mnist/*)' $(QUICK_mnist) $(ARGS)

sweep-seg: $(SEG:%=sweep-%) ## Regenerate the tables of segmentation: sweep-brain, -gland, -lesion, -fcn, -ventricle

$(SEG:%=sweep-%): sweep-%: install
	$(PY) train.py -m experiment='$(or $(FILES_$*),glob($*/*))' $(QUICK_$*) $(ARGS) $(ARGS_$*)

sweep-detect: install ## Regenerate the table of detection, report A's camera traps
	$(PY) train.py -m experiment='glob(wildlife/*)' $(QUICK_wildlife) $(ARGS) $(ARGS_wildlife)

sweep-receptive: install ## Study what a unit of ResNet-18 looks at, report D2: IMAGES=photos/ ARGS_receptive='--top 5'
	@test -n "$(IMAGES)" || { echo "sweep-receptive: no images in $(DATA); give IMAGES=<folder>" >&2; exit 1; }
	$(VENV)/bin/retable receptive --network resnet18 --layer layer4 --unit 10 $(QUICK_receptive) $(ARGS_receptive) $(IMAGES)
	test ! -e multirun/tables/index.html || $(VENV)/bin/retable report multirun

sweep-all: sweep-cifar sweep-mnist sweep-seg sweep-detect sweep-receptive ## Regenerate every table

view: install ## Show progress, failures and tables of all sweeps in the browser
	$(VENV)/bin/retable view multirun

tensorboard: install ## Show the curves of all sweeps
	$(VENV)/bin/tensorboard --logdir multirun/tables

docs: $(VENV)/.docs ## Build the documentation into site/; a broken link or name ends it
	$(PY) -m mkdocs build --strict $(ARGS)

$(VENV)/.docs: $(VENV)/.installed
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

lint: install ## Check style
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

format: install ## Mend style
	$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

clean: ## Remove the environment and caches; keeps multirun/ and outputs/
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist site src/*.egg-info
