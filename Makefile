# make demo | test | check | bench | chaos | fuzz | paper | docs | install-service | clean
# Everything runs in .venv, which the first call makes with pinned versions (constraints/). Nothing else is written to,
# except by install-service, and by test, which installs mosquitto where it is absent and may be installed.

# A Python that can make a venv. Its version picks the pins.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell .ci/find-python 3.11 3.12 3.13 3.10)
endif
VERSION := $(if $(PYTHON),$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
PINS := $(wildcard constraints/py$(VERSION).txt)
CONSTRAINTS := $(or $(PINS),constraints/py3.12.txt)
VENV := .venv
BIN := $(VENV)/bin

# What must also pass on the Pythons of JetPack 5, 6 and 7.
DEVICE_PYTHONS := 3.8 3.10 3.12
DEVICE_TESTS := $(wildcard tests/core tests/client tests/daemon tests/cli/test_doctor.py tests/engines/test_backends.py \
  tests/engines/test_pull.py $(addprefix tests/calibration/test_,latency.py lookup.py median.py table.py))

PYTEST_ARGS ?= -x -q
SEEDS ?= 20
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check bench bench-allocation exhaustive engines-exact tensorrt-proof chaos fuzz paper docs \
  device-tests mosquitto install-service clean

$(VENV)/ready: setup.py pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "make: no Python 3.10 or later that can make a venv (apt install python3-venv)"; exit 1; }
	@test -n "$(PINS)" || echo "make: no pins for Python $(VERSION): those of $(CONSTRAINTS) are used"
	@echo "make: installing into $(VENV) with $(PYTHON) ($(VERSION)): a minute or two"
	@test "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$(VERSION)" || \
	  $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q -c $(CONSTRAINTS) setuptools wheel
	@$(BIN)/python -m pip install -q -c $(CONSTRAINTS) --no-build-isolation -e '.[dev]'
	@touch $@

demo: $(VENV)/ready
	@$(BIN)/pamdi demo $(DEMO_ARGS)

test: $(VENV)/ready mosquitto
	$(BIN)/python -m pytest $(PYTEST_ARGS)
	@$(MAKE) --no-print-directory device-tests

device-tests:
	@for v in $(DEVICE_PYTHONS); do sh tests/on_python.sh $$v $(DEVICE_TESTS) || exit 1; done

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pamdi.cli.pictures --check docs

docs: $(VENV)/ready
	$(BIN)/python -m pamdi.cli.pictures docs

bench: $(VENV)/ready mosquitto
	$(BIN)/python -m benchmarks.hop
	$(BIN)/python -m benchmarks.demo_ratios
	$(BIN)/python -m benchmarks.simulator
	$(BIN)/python -m benchmarks.agreement
	$(BIN)/python -m benchmarks.as_if_alone
	$(BIN)/python -m benchmarks.half

# Must-holds of cutting: bit for bit, and in little memory. resnet50 and gpt2 need the extra `models`.
engines-exact: $(VENV)/ready
	$(BIN)/python -m benchmarks.engines_exact
	$(BIN)/python -m benchmarks.engines_memory

# Minutes: the solver beside exact, on large fleets, and every plan there is on a hundred small ones.
bench-allocation: $(VENV)/ready mosquitto
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.allocation --largest
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.live --allocate --publish

exhaustive: $(VENV)/ready
	PAMDI_EXHAUSTIVE=1 $(BIN)/python -m pytest -q -s -o faulthandler_timeout=1800 tests/controller/solver/test_exact.py

chaos: $(VENV)/ready mosquitto
	$(BIN)/python -m benchmarks.chaos --seeds $(SEEDS)

fuzz: $(VENV)/ready
	$(BIN)/python -m benchmarks.fuzz_payloads

# TensorRT without a board: our code against the real bindings of three versions, real builds with TensorRT-RTX. x86-64.
PROOF := .venv-tensorrt
BINDINGS := tensorrt-cu12-bindings==10.3.0 tensorrt-cu12-bindings==10.13.3.9 tensorrt-cu13-bindings==11.4.0.106
RTX := onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0 tensorrt-rtx-cu13-bindings==1.7.1.116 cuda-bindings==13.5.0
$(PROOF)/ready: setup.py Makefile $(CONSTRAINTS)
	@$(PYTHON) -m venv $(PROOF)
	@$(PROOF)/bin/python -m pip install -q -c $(CONSTRAINTS) setuptools wheel
	@$(PROOF)/bin/python -m pip install -q -c $(CONSTRAINTS) --no-build-isolation -e '.[dev]'
	@$(PROOF)/bin/python -m pip install -q $(RTX)
	@for b in $(BINDINGS); do \
	  $(PROOF)/bin/python -m pip install -q --no-deps --only-binary=:all: --upgrade --target $(PROOF)/bindings/$${b##*==} $$b || exit 1; done
	@touch $@

tensorrt-proof: $(PROOF)/ready
	PAMDI_TENSORRT_BINDINGS=$(CURDIR)/$(PROOF)/bindings $(PROOF)/bin/python -m pytest $(PYTEST_ARGS) tests/tensorrt

# The paper's settings in the simulator: a table, and build/paper/index.html.
paper: $(VENV)/ready
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(BIN)/python -m pip install -q -c $(CONSTRAINTS) --no-build-isolation -e '.[paper]'
	$(BIN)/python -m benchmarks.paper

# The broker that the tests use. They fall back on the embedded one, and say which of them need the real one.
mosquitto:
	@PATH="$$PATH:/usr/sbin:/usr/local/sbin"; command -v mosquitto >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "make: installing mosquitto, the broker that the tests use"; \
	    { apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mosquitto; } >/dev/null 2>&1; fi; \
	  command -v mosquitto >/dev/null || \
	    echo "make: mosquitto is absent (apt install mosquitto): the embedded broker is used, tests that need mosquitto are skipped"; }

# On a device: sudo make install-service ROLE=daemon (or controller, or both). systemd/install.sh says what it does.
ROLE ?= daemon
PREFIX ?= /opt/pamdi
SYSCONFDIR ?= /etc
install-service:
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" SYSCONFDIR="$(SYSCONFDIR)" ROLE="$(ROLE)" sh systemd/install.sh

clean:
	rm -rf $(VENV) .venv-3.* build dist .cache
