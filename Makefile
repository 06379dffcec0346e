# A newcomer's commands. `make run`, `make test`; `make help` lists all.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin

export DAGSTER_HOME := $(CURDIR)
export DAGSTER_DISABLE_TELEMETRY := true
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export NO_ALBUMENTATIONS_UPDATE := 1

# `make run FOOTAGE=DIR` works on real footage, in a site folder of its own.
ifdef FOOTAGE
export FALL_FOOTAGE := $(abspath $(FOOTAGE))
export FALL_SITE := $(CURDIR)/data/$(notdir $(abspath $(FOOTAGE)))
endif

.PHONY: help setup run dev label-studio test check format docs lock clean

help: ## List the commands.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: .venv/.ready ## Set up .venv with everything that is needed.

# With UV_TORCH_BACKEND=cpu the CUDA libraries that the lock file names are left out.
.venv/.ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"
	if [ "$$UV_TORCH_BACKEND" = cpu ]; then \
	  grep -vE '^(nvidia-|cuda-|triton)' requirements.lock > .venv/requirements.txt; \
	else cp requirements.lock .venv/requirements.txt; fi
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r .venv/requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@

run: setup ## Once around the loop: simulated hospital, or FOOTAGE=DIR.
	$(BIN)/fall-assets run

dev: setup ## Dagster's UI with the daemon, and MLflow's beside it (loopback only).
	$(BIN)/fall-assets dev

# Label Studio holds other versions of what we use: its own environment. Loopback only, telemetry
# off; it serves the previews of an export and nothing else.
label-studio: .venv-label-studio/.ready ## Set up Label Studio; with EXPORT=DIR start it on an export.
ifdef EXPORT
	LABEL_STUDIO_BASE_DATA_DIR=$(CURDIR)/data/label-studio \
	LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true \
	LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=$(abspath $(EXPORT)) \
	COLLECT_ANALYTICS=False LATEST_VERSION_CHECK=False SENTRY_DSN= FRONTEND_SENTRY_DSN= DEBUG=False \
	.venv-label-studio/bin/label-studio start --no-browser --internal-host 127.0.0.1 --port 8080
endif

.venv-label-studio/.ready:
	test -x .venv-label-studio/bin/python || $(PYTHON) -m venv .venv-label-studio
	.venv-label-studio/bin/python -m pip install --quiet --disable-pip-version-check label-studio==1.23.2
	touch $@

# A core for each of the two processes: threads of their own would only wait for one another.
test: setup ## The tests.
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --no-loadscope-reorder

check: setup ## Lint, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Put the code into shape.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Write the data dictionary from the schema registry.
	$(BIN)/python -m fall_assets.lake.dictionary

lock: setup ## Pin all versions anew, without index addresses.
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --extra dev \
	  --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock
	@# That it is for Python 3.11 need not stand on every line.
	sed -i -E "s/ ; python_full_version < '3.12'( and )?/ ; /; s/ ; $$//" requirements.lock

clean: ## Remove the simulated site, all lakes and all state below data/.
	find data -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
