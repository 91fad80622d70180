# make setup   everything that `detections up` needs: .venv, the product, RabbitMQ
# make demo    a clip streamed through the whole system; FILE=… MODEL=… for another one
# make up      the service on this machine, until Ctrl-C; ANNOTATIONS=fake with a double of the Annotations service
# make run FILE=…   one file, here and now, without a broker
# make test    all tests, but for those that take minutes
# make soak    those
# make check   format, lint, types, import rules, shape
# make bench   what is promised, measured
# make lock    the lock files, after a change in pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help setup rabbitmq chromium demo up run test soak check bench lock
.SUFFIXES:
.NOTPARALLEL:  # two apt-gets shut each other out

# libraries that the caller's Python knows are no proof that .venv holds them, and what pip installs belongs in there
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT

# for the benchmarks, which load onnxruntime by themselves; the product says so to it by itself
export ORT_DISABLE_TELEMETRY ?= 1

VENV := .venv
TRITON := .venv-triton
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet --quiet
BUILD_LOCK := compose/requirements-build.lock
TEST_PROCESSES ?= 3
FILE ?=
MODEL ?=
ANNOTATIONS ?=
ARGUMENTS = $(if $(FILE),"$(FILE)") $(if $(MODEL),--model "$(MODEL)")

help:
	@sed -n '1,/^$$/s/^# //p' Makefile

setup: $(VENV)/.product rabbitmq

# a name on the PATH is no proof of an interpreter (version managers leave shims), so each is asked
$(VENV)/.venv:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "setup: $(VENV) with $$("$$python" --version)"; "$$python" -m venv $(VENV) && touch $@; exit; \
	  fi; \
	done; echo "setup: no Python of 3.11 or later with venv was found; name one: make setup PYTHON=/path/to/python3" >&2; exit 1

# what builds the product, and tensorrt-rtx, is locked as well: pip by itself would fetch the newest
$(VENV)/.product: requirements.lock $(BUILD_LOCK) pyproject.toml | $(VENV)/.venv
	@echo "setup: installing what requirements.lock names"
	@$(PIP) install --no-compile --require-hashes --requirement requirements.lock --requirement $(BUILD_LOCK)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.product
	@echo "setup: installing what requirements-dev.lock names"
	@$(PIP) install --no-compile --require-hashes --no-build-isolation --requirement requirements-dev.lock
	@touch $@

rabbitmq:
	@sh compose/install-rabbitmq.sh

# where it can't be had, the tests of the page are skipped
chromium:
	@sh compose/install-chromium.sh || echo "setup: no Chromium can be had here: the tests of the page are skipped" >&2

demo: setup
	@$(BIN)/python -m detections.demo $(ARGUMENTS)

up: setup
	@$(BIN)/python -m detections up $(if $(MODEL),--model "$(MODEL)") $(if $(ANNOTATIONS),--annotations "$(ANNOTATIONS)")

run: $(VENV)/.product
	@$(BIN)/python -m detections run $(ARGUMENTS)

# in an environment of its own, since it needs numpy 1; where it can't be had, the tests that need it are skipped
$(TRITON)/.built: requirements-triton-test.lock | $(VENV)/.venv
	@echo "setup: a Triton server for the tests"
	@if $(BIN)/python -m venv --clear $(TRITON) && $(PIP) --python $(TRITON)/bin/python install --no-compile --no-deps \
	  --require-hashes --requirement requirements-triton-test.lock; then touch $@; \
	else echo "setup: no Triton server can be had here: its tests are skipped" >&2; fi

# a file of tests stays in one process; the long ones come first. Bytecode is kept even where the environment forbids it:
# else every process that a test starts compiles its libraries again, 3 s of CPU each
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.dev $(TRITON)/.built rabbitmq chromium
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

soak: $(VENV)/.dev rabbitmq
	$(BIN)/python -m pytest -q -m soak

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/shape

bench: $(VENV)/.dev rabbitmq
	$(BIN)/python -m benchmarks

# all of them hold every version and its hashes, the same in all; a changed pyproject.toml changes only what it has to
LOCK := $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
lock: $(VENV)/.venv
	@$(PIP) install uv
	@$(LOCK) pyproject.toml --extra cpu --extra dev --extra openvino --extra tracing --extra triton --output-file requirements-dev.lock >/dev/null
	@$(LOCK) pyproject.toml --extra cpu --constraint requirements-dev.lock --output-file requirements.lock >/dev/null
	@for image in edge consumer-cpu consumer-gpu; do \
	  $(LOCK) --group $$image-image --constraint requirements-dev.lock --output-file compose/requirements-$$image.lock >/dev/null; done
	@$(LOCK) --group build --constraint requirements-dev.lock --output-file $(BUILD_LOCK) >/dev/null
	@$(LOCK) --group triton-server --no-deps --output-file requirements-triton-test.lock >/dev/null
