# `make` lists the targets. All of them work from a fresh clone with python3 (3.11 or newer, with venv) and make.
# Overridable: PYTHON=python3.12 (makes the environment), VENV=.venv (its place), NBVAL=--nbval-lax (how notebooks compare),
# SECONDS=300 (how long the demo runs).

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
NBVAL = --nbval
WORKERS = 2
SECONDS = 60
SEEDS = 5000
FROM = 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long sim check bench bench-peers notebooks

help:           ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 16

setup: $(READY) ## make the environment and install everything; instant when nothing changed

demo: $(READY)  ## a market running, two strategies on paper, until Ctrl-C or SECONDS (60) are over
	@$(BIN)/alphapanda demo --seconds $(SECONDS)

test: $(READY)  ## notebooks, then the tests of every day
	@code=0; \
	$(BIN)/python -m pytest -q -p no:randomly $(NBVAL) --nbval-current-env --nbval-sanitize-with .ci/nbval.cfg \
		--nbval-cell-timeout 120 notebooks || code=$$?; \
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile tests || code=$$?; \
	exit $$code

test-long: $(READY) ## those that kill real processes while they trade, or open JupyterLab; CI runs them as well
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "long and not soak" tests

sim: $(READY)   ## simulate the order path: SEEDS (5000) seeds from FROM (0); `make sim SEEDS=20000`
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --from $(FROM) --workers $(WORKERS)

check: $(READY) ## lint, format, types, import contracts, spelling, secrets
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python .ci/scan_secrets.py

bench: $(READY) ## ticks a second against a hand-written loop
	$(BIN)/python -m tests.bench

bench-peers: $(READY) ## the same job in other engines, in an environment of their own
	$(BIN)/python -m tests.bench.peers

notebooks: $(READY) ## open the numbered notebooks
	$(BIN)/jupyter lab notebooks

# A stamp in the environment: older than what it was made from, it is made again. uv does it in seconds; pip also can.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
			{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }; \
		$(PYTHON) -m venv $(VENV) || \
			{ echo "python3 lacks venv (on Debian: apt-get install python3-venv)"; rm -rf $(VENV); exit 1; }; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip -q
	@echo "setting up $(VENV): 10 to 60 seconds, once"
	@{ test -x $(BIN)/uv || $(BIN)/python -m pip install -q --disable-pip-version-check uv; } && \
		$(BIN)/uv pip install -q --python $(BIN)/python -e '.[all]' -c constraints.txt || \
		{ echo "uv could not: using pip, which takes a minute"; \
		  $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[all]' -c constraints.txt; }
	@touch $(READY)
