# `make demo` and `make test` need Python 3.11 or newer and nothing else: each builds .venv from the pinned constraints.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-slurm test-all bench lint types format clean

demo: $(VENV)/.demo
	$(RUN) train.py

test: $(VENV)/.dev
	$(RUN) -m pytest -n auto --dist loadfile -m "not slow and not ddp and not slurm and not gpu"

test-slurm: $(VENV)/.dev
	$(RUN) -m pytest -m slurm

test-all: $(VENV)/.dev
	$(RUN) -m pytest

bench: $(VENV)/.dev
	$(RUN) benchmarks/training_step.py

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.dev
	$(VENV)/bin/mypy

format: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV)

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit("imago needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "could not create a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.demo: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(VENV)/bin/pip install --quiet -c constraints.txt -e .[video]
	@touch $@

$(VENV)/.dev: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(VENV)/bin/pip install --quiet -c constraints.txt -e .[dev]
	@touch $@
