# make repro: environment, pipeline, headline.   make test: every test.   Both need Python 3.11, git and make, nothing else.
# make ray: Ray, for parallel.backend=ray and its tests.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: repro test ray lint clean

repro: $(VENV)/installed
	@python -m pairpref.params
	@python -m pairpref.versions tag
	@dvc repro
	@python -m pairpref.reporting.headline

test: $(VENV)/installed-dev
	@python -m pytest -n 2 --dist loadfile

ray: $(VENV)/installed-ray

lint: $(VENV)/installed-dev
	@ruff check . && ruff format --check .

# The scripts of a .venv name the folder it was made in: in a copied or renamed one it is made anew.
MADE_IN := $(shell . $(BIN)/activate 2> /dev/null && echo "$$VIRTUAL_ENV")
ifneq ($(MADE_IN),$(abspath $(VENV)))
.PHONY: $(VENV)/installed
endif

$(VENV)/installed: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11 repro"; exit 1; }
	@test ! -e $(BIN)/activate || test "$(MADE_IN)" = "$(abspath $(VENV))" \
		|| { echo "$(VENV) was made in $(MADE_IN), and is made anew here"; rm -rf $(VENV); }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): a minute or more the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(VENV)/installed-ray: $(VENV)/installed requirements-ray.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-ray.txt
	@touch $@

clean:
	rm -rf $(VENV) logs work data models report submission.csv dvc_plots
