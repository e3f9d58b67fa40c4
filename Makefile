# `make run` and `make test` set themselves up. PORT, HOST and every PLATFORM_… setting come from the environment.
MAKEFLAGS += --no-print-directory
# Without byte code each process compiles all that it imports anew, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12,$(shell command -v $(name) 2>/dev/null)))
VENV := .venv/bin/python
INSTALL := $(PYTHON) qlibplatform/local/choose_python.py qlibplatform/local/install.py
TESTS := $(VENV) -m pytest
# Said before and after: a green run without real prices must not be mistaken for a whole one.
NOTICE := test -d "$(MARKET_DATA)" || printf '\033[1;31m%s\033[0m\n' \
	"**** MARKET_DATA names no folder: the tests on real market data are SKIPPED ****"
BROWSER := { command -v chromium || command -v google-chrome; } >/dev/null || printf '\033[1;31m%s\033[0m\n' \
	"**** no Chromium (apt-get install chromium): the tests of the pages in a browser are SKIPPED ****"
LOGGED := FAULT_LOG=var/faults.jsonl FAULT_RESUME=1
LOCK := cd requirements && ../.venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" \
	--excludes left_out.txt --overrides overrides.txt $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help run install models torch test test-fast faults faults-all check format lock clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

run: install ## Start the platform in the foreground (PORT=8000, HOST=127.0.0.1); Ctrl-C stops it
	@$(VENV) -m qlibplatform.local.lifeline $(VENV) -m qlibplatform.local

install: python ## Install what `make run` needs into .venv
	@$(INSTALL) base worker

models: python ## Add XGBoost and CatBoost
	@$(INSTALL) base worker models

torch: install ## Add torch for CPU
	@$(INSTALL) torch

test: install-dev ## Run the whole test suite (MARKET_DATA and QLIB_EXAMPLES name folders of real data)
	@$(NOTICE); $(BROWSER)
	@$(TESTS) -n 2 --dist loadfile -m "not e2e"
	@$(TESTS) -n 2 --dist loadfile -m e2e
	@$(NOTICE); $(BROWSER)

test-fast: install-dev ## Run what needs no worker, no Redis and no Qlib, without the slow and the faults
	@$(TESTS) -n 2 -m "not redis and not qlib and not e2e and not postgres and not slow" --ignore=tests/faults

faults: install-dev ## Run five rounds of every fault, and the long form of the tests around them (hours)
	@$(NOTICE)
	@ROUNDS=5 MODEL_EXAMPLES=2000 MODEL_RANDOM=1 RACE_ROUNDS=200 CRASH_ROUNDS=5 $(TESTS) tests/faults
	@$(VENV) -m tests.faults.mutants

faults-all: install-dev ## Go on with the faults where this stopped, towards fifty rounds of each (days)
	@$(NOTICE); mkdir -p var; for rounds in 1 5 10 15 20 25 30 35 40 45 50; do \
		ROUNDS=$$rounds $(LOGGED) $(TESTS) tests/faults/test_kills.py || failed=1; \
	done; $(VENV) -m tests.faults.tally --of 50 var/faults.jsonl; exit $${failed:-0}

check: install-dev ## Check style, types, import contracts and migrations
	@$(VENV) -m ruff check .
	@$(VENV) -m ruff format --check .
	@$(VENV) -m mypy
	@.venv/bin/lint-imports
	@$(VENV) manage.py makemigrations --check --dry-run
	@git ls-files -z '*.py' | xargs -0 $(VENV) -m django_upgrade --target-version 5.2 --check

format: install-dev ## Mend what ruff can mend
	@$(VENV) -m ruff check --fix .
	@$(VENV) -m ruff format .

lock: install ## Lock the packages anew, with hashes (UPGRADE=1 for newer versions)
	@for set in bootstrap installer base worker s3 models dev; do \
		case $$set in models|dev) more=;; *) more="--excludes left_out_of_worker.txt";; esac; \
		$(LOCK) $$more -o $$set.txt $$set.in || exit 1; done

clean: ## Remove the virtual environment and caches; what was trained stays in var/
	rm -rf .venv .venv-bootstrap var/cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.PHONY: python install-dev
install-dev: python
	@$(INSTALL) base worker s3 models dev

python:
	@test -n "$(PYTHON)" || { echo "No Python was found. The platform needs Python 3.11 or 3.12."; exit 1; }
