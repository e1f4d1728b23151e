# The commands of the project. `make help` lists them.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LOCK_HASH := $(shell sha256sum requirements.txt | cut -c1-16)
STAMP := $(VENV)/.installed-$(LOCK_HASH)
PEERS := .venv-peers
PEERS_NEEDS := benchmarks/peers/requirements.txt benchmarks/peers/requirements-alone.txt
PEERS_STAMP := $(PEERS)/.installed-$(shell cat requirements.txt $(PEERS_NEEDS) | sha256sum | cut -c1-16)
AT_HOME = $(if $(HOME_FOLDER),--home "$(HOME_FOLDER)")
DATA_SETS ?= shop-100k-low shop-100k-mid shop-100k-high

.PHONY: help setup java run check up down status serve spark-cluster spark-cluster-down test test-fast lint docs lock bench bench-speed bench-quality bench-published bench-negatives bench-scale clean

help: ## Lists these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-18s %s\n", $$1, $$2}'
	@echo
	@echo 'make run DATE=2026-01-29                    the next date of the embedded shop'
	@echo 'make check DATA=/path/to/tables             looks at your own data (docs/data-contract.md)'
	@echo 'make run DATA=/path/to/tables               runs them'
	@echo 'make run SET="training.epochs=3 ..."        any setting (python -m jobs.prepare --help)'

setup: java $(STAMP) ## Makes the virtual environment with every pinned package, and checks Java

java:
	@infra/check_java.sh

$(STAMP): requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed and '$(PYTHON)' is not there. Type:  sudo apt-get install -y python3.11 python3.11-venv   (or make PYTHON=/path/to/python3.11 ...)" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "The virtual environment cannot be made. Type:  sudo apt-get install -y python3.11-venv" >&2; exit 1; }
	@infra/install_requirements.sh $(BIN)/python requirements.txt
	@rm -f $(VENV)/.installed-*
	@touch $@

run: setup ## Runs the pipeline for one date: DATE=, DATA=, SET=, HOME_FOLDER=, SPARK_MASTER=
	@$(BIN)/python -m infra.local.run $(if $(DATA),--data "$(DATA)") $(if $(DATE),--date "$(DATE)") $(if $(HOME_FOLDER),--home "$(HOME_FOLDER)") $(if $(SET)$(SPARK_MASTER),--set $(SET) $(if $(SPARK_MASTER),spark.master=$(SPARK_MASTER)))

check: setup ## Looks at your tables before a run, in under a minute: DATA=, DATE=, SET=, HOME_FOLDER=
	@$(BIN)/python -m infra.local.check $(if $(DATA),--data "$(DATA)") $(if $(DATE),--date "$(DATE)") $(AT_HOME) $(if $(SET),--set $(SET))

up: setup ## Starts Airflow and MLflow on PostgreSQL; they run until `make down`: HOME_FOLDER=, DATA=, PORT=, MLFLOW_PORT=, REPORTS_PORT=, SCHEDULE=, OTEL=
	@$(BIN)/python -m infra.local.up up $(AT_HOME) $(if $(DATA),--data "$(DATA)") $(if $(PORT),--port $(PORT)) $(if $(MLFLOW_PORT),--mlflow-port $(MLFLOW_PORT)) $(if $(REPORTS_PORT),--reports-port $(REPORTS_PORT)) $(if $(SCHEDULE),--schedule "$(SCHEDULE)") $(if $(OTEL),--otel "$(OTEL)") $(if $(SPARK_MASTER),--spark-master "$(SPARK_MASTER)")

down: ## Stops what `make up` has started; data stay: HOME_FOLDER=
	@$(BIN)/python -m infra.local.up down $(AT_HOME)

status: ## Says what is up, where, since when, and how large: HOME_FOLDER=
	@$(BIN)/python -m infra.local.up status $(AT_HOME)

serve: setup ## Answers queries over HTTP from the model in force: HOME_FOLDER=, SERVE_PORT=, WORKERS=, RATE=
	@$(BIN)/python -m esans_core.serving --folder "$(or $(HOME_FOLDER),var/embedded)/serving" --token-file "$(or $(HOME_FOLDER),var/embedded)/serve-token" $(if $(SERVE_PORT),--port $(SERVE_PORT)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(RATE),--rate "$(RATE)")

spark-cluster: setup ## Starts a Spark master and workers on this machine: PORT=, WORKERS=
	@$(BIN)/python -m infra.local.spark_cluster up $(if $(PORT),--port $(PORT)) $(if $(WORKERS),--workers $(WORKERS))

spark-cluster-down: ## Stops the Spark master and workers
	@$(BIN)/python -m infra.local.spark_cluster down

test: setup ## Runs every test; installs Chromium and PostgreSQL if it may
	@infra/check_test_tools.sh
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup ## Runs the tests without Spark, Airflow, MLflow and long training
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not spark and not airflow and not mlflow and not browser and not slow"

lint: setup ## Checks style, types, spelling and the documentation
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/codespell
	@$(MAKE) --no-print-directory docs

docs: setup ## Builds the site of docs/ in site/; a dead link or an undocumented public name fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lock: setup ## Compiles requirements.txt from requirements.in; UPGRADE=1 takes newer versions
	@$(BIN)/python -m pip install -q --disable-pip-version-check pip-tools==7.6.2
	@cp requirements.txt $(VENV)/lock.txt
	@$(BIN)/pip-compile -q $(if $(UPGRADE),--upgrade) --strip-extras --allow-unsafe --no-header --no-emit-options \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file $(VENV)/lock.txt requirements.in
	@{ cat infra/lock_head.txt; sed -E 's/^(torch==[0-9.]+)\+cpu/\1/' $(VENV)/lock.txt; } > requirements.txt

bench: bench-speed bench-quality bench-scale ## Runs the benchmarks (QUICK=1: less of them, in minutes)

bench-speed: $(PEERS_STAMP) ## Measures speed against other libraries (QUICK=1: less of it, in minutes)
	@KINETO_LOG_LEVEL=99 $(PEERS)/bin/python -m benchmarks.speed $(if $(QUICK),--quick)

$(PEERS_STAMP): requirements.txt $(PEERS_NEEDS)
	@test -x $(PEERS)/bin/pip || $(PYTHON) -m venv $(PEERS)
	@echo '*' > $(PEERS)/.gitignore
	@echo "Installing the other libraries into $(PEERS); this takes a few minutes"
	@$(PEERS)/bin/python -m pip install -q --disable-pip-version-check -r benchmarks/peers/requirements.txt
	@$(PEERS)/bin/python -m pip install -q --disable-pip-version-check --no-deps -r benchmarks/peers/requirements-alone.txt
	@rm -f $(PEERS)/.installed-*
	@touch $@

bench-quality: setup ## Compares the methods' quality (QUICK=1: a few methods on a small shop, in minutes; DATA_SETS="tiktok ...")
	@$(BIN)/python -m benchmarks.quality.prepare $(if $(QUICK),quick,$(DATA_SETS))
	@$(if $(QUICK),$(BIN)/python -m benchmarks.quality quick,for name in $(DATA_SETS); do $(BIN)/python -m benchmarks.quality run $$name; done; $(BIN)/python -m benchmarks.quality report)

bench-published: setup ## Sets the towers beside published figures: FOLDER= with the logs, LOGS=, MINUTES=, WORKERS= (QUICK=1: in minutes)
	@$(BIN)/python -m benchmarks.published $(if $(QUICK),quick,all $(LOGS)) $(if $(or $(FOLDER),$(DATA)),--folder "$(or $(FOLDER),$(DATA))") $(if $(MINUTES),--minutes $(MINUTES)) $(if $(WORKERS),--workers $(WORKERS))

bench-negatives: setup ## Compares few negatives on the same towers: FOLDER= with the logs, LOGS=, MINUTES=, WORKERS=
	@$(BIN)/python -m benchmarks.negatives run $(LOGS) $(if $(FOLDER),--folder "$(FOLDER)") $(if $(MINUTES),--minutes $(MINUTES)) $(if $(WORKERS),--workers $(WORKERS))

bench-scale: setup ## Measures a day's steps at 1 to 10 million items, over an hour (QUICK=1: at thousands, in minutes)
	@$(BIN)/python -m benchmarks.scale $(if $(QUICK),--quick)

clean: ## Removes caches and build folders; var/, with models and tables, stays
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache spark-warehouse metastore_db derby.log *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -type d -prune -exec rm -rf {} +
