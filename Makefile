# The chores, one word each. Every target sets up .venv first if it needs it;
# nothing has to be installed before but make and Python 3.11 or newer.

PYTHON ?= python3
ARGS ?=
# Processes that share the tests, a file each: many tests mostly wait.
TESTERS ?= 3

# A set-up that ended well leaves an empty file in .venv, named after what was
# asked for: the requirement files and the Python. If either changes there is no
# such file, nor after a set-up that was interrupted, and .venv is made again.
KEY := $(shell { cat requirements.txt requirements-dev.txt constraints.txt; \
	$(PYTHON) -c 'import sys; print(sys.version, sys.base_prefix)'; } \
	2>/dev/null | cksum | cut -d ' ' -f 1)
RUNTIME := .venv/ready-to-run-$(KEY)
DEV := .venv/ready-to-test-$(KEY)
IN_VENV := .venv/bin/python
PIP := $(IN_VENV) -m pip install -qq --no-input --disable-pip-version-check
# What takes long is said before it begins, and how long it took when it has ended.
STEP = printf '  %s ... ' "$(1)"; began=$$(date +%s)
DONE = echo "done in $$(($$(date +%s) - began)) s"
INSTALL = $(call STEP,fetching and installing $$(grep -c == $(1)) packages $(2) and their needs) \
	&& { $(PIP) -r $(1) || $(call PIP_FAILED,$(1)); } && $(DONE)
PIP_FAILED = { echo; echo "Is the package index within reach? To see more:" \
	"$(IN_VENV) -m pip install -r $(1)" >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help setup run test tools check lint bench pictures format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s%s\n", $$1, $$2 }' Makefile

setup: $(RUNTIME) ## make .venv, with what it takes to run, and no more

run: $(RUNTIME) ## start the service; make run ARGS="--port 5001"
	@$(IN_VENV) run.py $(ARGS)

test: $(DEV) ## run every test; make test ARGS="-k quorum" INSTALL_TOOLS=no
	@sh tests/install_tools.sh
	@$(IN_VENV) -m pytest -n $(TESTERS) --dist loadfile $(ARGS)

tools: ## list what tests need beyond Python that make test would install, as root
	@sh tests/install_tools.sh list

check: lint ## format, lint, types and the fast tests: one to three minutes on two cores
	@$(IN_VENV) -m pytest -q -n $(TESTERS) --dist loadfile -m "not slow" --ignore=tests/e2e

lint: $(DEV) ## format, lint and types
	@$(IN_VENV) -m ruff format --check .
	@$(IN_VENV) -m ruff check --quiet .
	@$(IN_VENV) -m mypy .

bench: $(RUNTIME) ## measure this store beside others; make bench ARGS="--help"
	@$(IN_VENV) run.py bench $(ARGS)

pictures: $(DEV) ## photograph the page for the README; needs chromium
	@$(IN_VENV) -m tests.browser.pictures $(ARGS)

format: $(DEV) ## put the source in the one format, and mend what lint can
	@$(IN_VENV) -m ruff check --fix --exit-zero .
	@$(IN_VENV) -m ruff format .

clean: ## remove .venv and the caches; data/ and results/ stay
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, but $(PYTHON) says: $$($(PYTHON) -V 2>&1)." \
			"Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make a venv; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv, this once: half a minute a part, or two where the network is slow."
	@$(call STEP,making it with $$($(PYTHON) -V)) && $(PYTHON) -m venv --clear .venv && $(DONE)
	@$(call INSTALL,requirements.txt,to run)
	@touch $@

# The first stamp is away while the rest is added: if that stops in the middle, the
# next set-up begins anew.
$(DEV): | $(RUNTIME)
	@rm -f $(RUNTIME)
	@$(call INSTALL,requirements-dev.txt,for the tests)
	@touch $(RUNTIME) $@
