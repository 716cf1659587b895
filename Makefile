# Each target first installs what it needs into .venv; start needs less than the others. Later runs install nothing, unless a
# requirements file has changed.

PYTHONS := python3.13 python3.14 python3 python
PYTHON := $(shell for p in $(PYTHONS); do $$p -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
RUNS := .venv/.runs
READY := .venv/.ready
RUN := .venv/bin/python
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check
LOCK := .venv/.lock
PIN := $(LOCK)/bin/uv --quiet pip compile --upgrade --no-annotate --custom-compile-command "make lock" \
	--python-version 3.13 --python-platform linux

.PHONY: start test test-deep coverage contract lint format bench check-dates lock clean

start: $(RUNS)
	@$(RUN) -m local --ask "Hello! What are you?" $(ARGS)

test: $(READY)
	@$(RUN) -m pytest -n 4 --dist loadfile

test-deep: $(READY)
	@$(RUN) -m pytest -n 2 --dist loadfile -m 'deep or fuzz' --hypothesis-profile=deep

coverage: $(READY)
	@$(RUN) -m coverage run -m pytest
	@$(RUN) -m coverage combine -q
	@$(RUN) -m coverage report

# Check the simulator against the descriptions of Azure's API in contract/.
contract: $(READY)
	@$(RUN) -m tests.contract contract

lint: $(READY)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@.venv/bin/lint-imports --no-logo --no-cache

bench: $(READY)
	@$(RUN) -m bench
	@$(RUN) -m bench.telemetry
	@$(RUN) -m bench.callers

# Its result depends on the day, so the tests do not run it.
check-dates:
	@$(PYTHON) infra/check_dates.py

format: $(READY)
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

# Pin the newest versions that requirements.txt allows. Its own -c would keep the old ones.
lock:
	@$(PYTHON) -m venv $(LOCK)
	@$(LOCK)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@grep -v '^-c' requirements.txt >$(LOCK)/requirements.in
	@printf '%s\n' azure-monitor-opentelemetry opentelemetry-exporter-otlp-proto-http >$(LOCK)/telemetry.in
	@$(PIN) $(LOCK)/requirements.in $(LOCK)/telemetry.in -o constraints.txt
	@$(PIN) $(LOCK)/requirements.in -c constraints.txt --generate-hashes -o requirements.lock

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(RUNS): constraints.txt requirements.txt requirements-local.txt
ifeq ($(PYTHON),)
	@echo "No Python 3.13 or newer was found (tried: $(PYTHONS))." >&2
	@echo "Install one from https://www.python.org/downloads/ or with 'pyenv install 3.13', and try again." >&2
	@exit 1
endif
	@echo "Installing the requirements into .venv with $(PYTHON): about 110 MB ..."
	@$(PYTHON) -m venv .venv
	@$(INSTALL) -r requirements-local.txt
	@touch $@

$(READY): $(RUNS) requirements-dev.txt
	@echo "Installing tools for tests and linting into .venv: about 400 MB ..."
	@$(INSTALL) -r requirements-dev.txt
	@touch $@
