# make demo | test | check | bench | chaos | docs | install-service
# Everything runs in .venv, which is made on the first call with pinned versions (constraints/).

PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13 3.10,$(wildcard $(shell command -v python$(v) 2>/dev/null))) $(wildcard $(HOME)/.pyenv/versions/3.11*/bin/python) python3)
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := $(firstword $(wildcard constraints/py$(VERSION).txt) constraints/py3.11.txt)
DEVICE_TESTS := tests/core tests/client tests/daemon tests/engines/test_backends.py
DEVICE_PYTHONS := 3.8 3.10 3.12
SEEDS ?= 20
ROLE ?= daemon
PREFIX ?= /opt/pamdi
SYSCONFDIR ?= /etc
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check bench chaos fuzz docs device-tests mosquitto install-service clean

$(VENV)/ready: setup.py $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV) || { echo "make: python venv is missing: apt install python3-venv"; exit 1; }
	$(BIN)/pip install -q -c $(CONSTRAINTS) setuptools wheel
	$(BIN)/pip install -q -c $(CONSTRAINTS) --no-build-isolation -e '.[dev]'
	@touch $@

demo: $(VENV)/ready
	$(BIN)/pamdi demo $(DEMO_ARGS)

mosquitto:
	@command -v mosquitto >/dev/null || test -x /usr/sbin/mosquitto || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing mosquitto, the broker that the tests use"; \
	    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mosquitto mosquitto-clients >/dev/null; \
	  else echo "mosquitto is absent and cannot be installed: tests that need it are skipped"; fi; }

test: $(VENV)/ready mosquitto
	$(BIN)/python -m pytest -q
	@$(MAKE) --no-print-directory device-tests

device-tests:
	@for v in $(DEVICE_PYTHONS); do sh tests/on_python.sh $$v $(DEVICE_TESTS) || exit 1; done

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pamdi.cli.pictures --check docs

docs: $(VENV)/ready
	$(BIN)/python -m pamdi.cli.pictures docs

bench: $(VENV)/ready mosquitto
	$(BIN)/python -m benchmarks.hop
	$(BIN)/python -m benchmarks.demo_ratios

chaos: $(VENV)/ready mosquitto
	$(BIN)/python -m benchmarks.chaos --seeds $(SEEDS)

fuzz: $(VENV)/ready
	$(BIN)/python -m benchmarks.fuzz_payloads

install-service:
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) SYSCONFDIR=$(SYSCONFDIR) ROLE=$(ROLE) sh systemd/install.sh

clean:
	rm -rf $(VENV) .venv-3.* build dist .cache
