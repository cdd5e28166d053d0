# Two commands do everything: `make demo` and `make test`. Both set up their own virtual environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test check phantom docs clean
demo: $(READY)
	@$(BIN)/wsi-pipeline demo --out demo

test: $(READY) check
	@$(BIN)/pytest -n logical --dist loadfile

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

phantom: $(READY)
	@$(BIN)/wsi-pipeline phantom train --recipe cpu --out phantom-checkpoint

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once; a few minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

docs: $(READY)
	@$(BIN)/python docs/settings.py > docs/settings.md
	@$(BIN)/python docs/card.py
	@$(BIN)/python docs/needle_figure.py

clean:
	rm -rf $(VENV) demo build dist *.egg-info
