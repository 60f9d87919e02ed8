# The two commands on a fresh machine are `make demo` and `make test`; `make` alone lists all.
#
# Offline: `make demo WHEELS=DIR` installs from a folder of wheels instead of a package index. Fill it elsewhere with
#   python -m pip download --require-hashes -r requirements-test.lock -d DIR
# Another interpreter: `make test PYTHON=python3.12 VENV=.venv312`.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# How many pytest processes; `make test WORKERS=0` runs in one, for a debugger.
WORKERS ?= auto
# What to measure and how often: `make bench BENCH="small big --rounds 5"`.
BENCH ?=
# More words for pytest: `make test PYTEST="-k resume -x"`.
PYTEST ?=

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(WHEELS),--no-index --find-links $(WHEELS))
# The project itself: its build backend came with the lock, so nothing unhashed is fetched. What was compiled from an
# older source goes first, in case nothing can be compiled now. What is compiled serves every Python here.
NATIVE := asynccopy/transfer/_crc.c
INSTALL_SELF = find $(dir $(NATIVE)) -name '_crc.*so' ! -newer $(NATIVE) -delete && \
	$(PIP) --no-deps --no-build-isolation --editable .

.DEFAULT_GOAL := help
.PHONY: help demo demo-real test test-quick test-pythons soak check format lock bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## copy a generated tree between embedded servers, killed half-way, resumed, verified
	$(BIN)/asynccopy demo

demo-real: $(VENV)/.test ## the same on a real HDFS and a real S3 server (needs Java, Maven and Go)
	$(BIN)/python -m testbed fetch
	$(BIN)/python -m testbed.demo

# In the order of the folders: pytest-xdist would keep the files of few and long tests for the end, for one worker alone.
test: $(VENV)/.test ## every test; those that need Java or Go say so when they are skipped
	-$(BIN)/python -m testbed fetch --peers
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -rs $(PYTEST)

test-quick: $(VENV)/.test ## the tests that need no real server
	$(BIN)/python -m pytest -n $(WORKERS) -m "not real and not slow" $(PYTEST)

test-pythons: ## the tests that need no real server, on every CPython from 3.11 that is here but EXCEPT=3.x
	@seen="$(EXCEPT)"; for p in python3.11 python3.12 python3.13 python3.14 $(wildcard $(PYENV_ROOT)/versions/3.1[1-9]*/bin/python); do \
		v=$$($$p -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
		case " $$seen " in *" $$v "*) continue;; esac; seen="$$seen $$v"; echo "CPython $$v"; \
		$(MAKE) --no-print-directory test-quick PYTHON=$$p VENV=.venv-$$v || exit 1; \
	done

soak: $(VENV)/.test ## keep mirrors for ten minutes of change and kills, and through outages of a minute, on the real servers
	-$(BIN)/python -m testbed fetch
	ASYNCCOPY_REQUIRE_REAL=1 ASYNCCOPY_CHURN_SECONDS=600 ASYNCCOPY_OUTAGE_SECONDS=60 ASYNCCOPY_TOKEN_SECONDS=300 \
		ASYNCCOPY_ROTATING_SECONDS=60 \
		$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -rP -k "kills or away or full or rotate" \
		tests/real/test_daemon.py tests/real/test_daemon_outages.py tests/real/test_kerberos.py \
		tests/real/test_store_faults.py $(PYTEST)

check: $(VENV)/.test ## ruff, mypy strict, the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test ## let ruff lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test ## measure speed, CPU and memory on the real servers, beside DistCp, rclone and juicefs
	-$(BIN)/python -m testbed fetch --peers --rivals
	$(BIN)/python -m tests.bench $(BENCH)

lock: ## resolve the dependencies anew into both locks (needs uv)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		pyproject.toml --group build --output-file requirements.lock
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		pyproject.toml --group build --group test --constraint requirements.lock --output-file requirements-test.lock

clean: ## remove the virtual environment and every cache in this folder
	rm -rf $(VENV) .venv-* build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache \
		asynccopy/transfer/_crc.*so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say which lock the environment was made from, so a changed lock installs again.
$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "asynccopy needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.run: $(VENV)/.made requirements.lock pyproject.toml $(NATIVE)
	$(PIP) --require-hashes -r requirements.lock
	$(INSTALL_SELF)
	@touch $@

$(VENV)/.test: $(VENV)/.made requirements-test.lock pyproject.toml $(NATIVE)
	$(PIP) --require-hashes -r requirements-test.lock
	$(INSTALL_SELF)
	@touch $@ $(VENV)/.run
