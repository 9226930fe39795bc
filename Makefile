# make repro: environment, pipeline, headline. Needs Python 3.11 or later, git and make, nothing else.
# make test: what a change can break, in minutes. make test-all: the slow rest.
# make lint: ruff and mypy. make ray: Ray, for parallel.backend=ray and its tests.

PYTHON ?= $(shell for v in 11 12 13 14; do python3.$$v -c '' 2> /dev/null && echo python3.$$v && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
export PATH := $(abspath $(BIN)):$(PATH)
export DVC_NO_ANALYTICS := 1
# A file's tests share what they make; tests/conftest.py says in which order files come.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: repro test test-all ray lint clean

repro: $(VENV)/installed
	@pairpref params
	@pairpref versions tag
	@dvc repro
	@python -m pairpref.reporting.headline

test: $(VENV)/installed-dev
	@python -m pytest $(TWO) -m "not slow"

test-all: $(VENV)/installed-dev
	@HYPOTHESIS_PROFILE=thorough python -m pytest $(TWO) -m "slow or hypothesis"

ray: $(VENV)/installed-ray

lint: $(VENV)/installed-dev
	@ruff check . && ruff format --check . && mypy

# The scripts of a .venv name the folder it was made in: in a copied or renamed one it is made anew.
MADE_IN := $(shell . $(BIN)/activate 2> /dev/null && echo "$$VIRTUAL_ENV")
ifneq ($(MADE_IN),$(abspath $(VENV)))
.PHONY: $(VENV)/installed
endif

$(VENV)/installed: requirements.txt constraints.txt pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed, as python3.11 … python3.14 or by its path: make PYTHON=/path/to/python repro"; exit 1; }
	@test ! -e $(BIN)/activate || test "$(MADE_IN)" = "$(abspath $(VENV))" \
		|| { echo "$(VENV) was made in $(MADE_IN), and is made anew here"; rm -rf $(VENV); }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): a minute or more the first time"
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/installed-%: $(VENV)/installed
	@$(PIP) -c constraints.txt -e '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) logs work data models report submission.csv dvc_plots
