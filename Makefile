# Sets itself up: any target first makes .venv, and makes it anew when setup.py or constraints.txt change.
.DEFAULT_GOAL := help
.PHONY: help setup demo up up-celery test quick test-cloud-init crash-matrix measure bench lint clean

PY := .venv/bin/python
READY := .venv/.ready
SUITS := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
EXTRAS := apache-airflow-providers-celery apache-airflow-providers-postgres redis psycopg2-binary

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## /\1|/p' Makefile | while IFS='|' read -r name what; do \
		printf '  make %-15s %s\n' "$$name" "$$what"; done

setup: $(READY) ## make .venv and install everything into it (about two minutes the first time)

# exec: one process below make, so that what make is told to end reaches Python.
demo: $(READY) ## a job, a burst of tasks and a batch of files, from beginning to end
	@exec $(PY) scripts/demo.py

up: $(READY) ## the local cloud and Airflow on this machine, till Ctrl-C
	@exec $(PY) scripts/up.py

up-celery: $(READY) ## the same as a deployment: Celery, Postgres, Redis, two triggerers and workers
	@exec $(PY) scripts/up_celery.py

# More would start three Airflows at once on two cores. The order of the files is tests/conftest.py's.
test: $(READY) ## every test, in two processes
	@exec $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

quick: $(READY) ## the tests that take no Airflow start
	@exec $(PY) -m pytest -m "not slow"

test-cloud-init: $(READY) ## the boot script under real systemd and cloud-init (root, Debian)
	@exec $(PY) -m pytest tests/cloud_init

crash-matrix: $(READY) ## kill the task process everywhere, and write docs/reliability.md's table
	@exec $(PY) -m tests.crash.matrix --report

measure: $(READY) ## write the README's figures anew
	@exec $(PY) scripts/measure.py

bench: $(READY) ## measure waits, imports and bursts beside the stock provider, and write docs/performance.md's tables
	@exec $(PY) -m benchmarks

lint: $(READY) ## ruff check, ruff format --check, mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

clean: ## remove .venv and everything that runs left behind
	rm -rf .venv .airflow build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find airflow_transient dags scripts tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The stamp comes last, so a broken install is tried again. No absolute paths: the folder may hold a space.
$(READY): setup.py constraints.txt
	@rm -f $(READY)
	@$(PY) -c '$(SUITS)' >/dev/null 2>&1 || { \
		for python in python3 python3.13 python3.12 python3.11 python3.10; do \
			"$$python" -c '$(SUITS)' >/dev/null 2>&1 && break; \
			python=; \
		done; \
		test -n "$$python" || { \
			echo "airflow_transient needs Python 3.10, 3.11, 3.12 or 3.13, and none of them is on PATH." >&2; exit 1; }; \
		"$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || { \
			echo "$$python has no venv module: install it first (Debian, Ubuntu: apt-get install python3-venv)." >&2; \
			exit 1; }; \
		echo "Making .venv with $$("$$python" -V)."; \
		"$$python" -m venv --clear .venv; }
	@echo "Installing into .venv; the first time takes about two minutes."
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,test]' $(EXTRAS)
	@touch $(READY)
