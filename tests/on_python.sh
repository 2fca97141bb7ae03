#!/bin/sh
# Run the device side's tests on one Python version, in a venv of its own, or say that the version is absent.
# usage: on_python.sh 3.8 tests/core tests/daemon ...
set -e
version=$1
shift
python=$(command -v "python$version" || ls -d "${PYENV_ROOT:-/root/.pyenv}"/versions/"$version".*/bin/python 2>/dev/null | tail -n 1 || true)
if [ -z "$python" ] || ! "$python" -c 'import sys' 2>/dev/null; then
  python=$(ls -d "${PYENV_ROOT:-/root/.pyenv}"/versions/"$version".*/bin/python 2>/dev/null | tail -n 1 || true)
fi
if [ -z "$python" ]; then
  echo "python$version: absent, device-side tests not run on it"
  exit 0
fi
venv=.venv-$version
if [ ! -f "$venv/ready" ] || [ "constraints/py$version.txt" -nt "$venv/ready" ] || [ setup.py -nt "$venv/ready" ]; then
  "$python" -m venv "$venv"
  "$venv/bin/pip" install -q -c "constraints/py$version.txt" setuptools wheel
  "$venv/bin/pip" install -q -c "constraints/py$version.txt" --no-build-isolation -e '.[test]'
  touch "$venv/ready"
fi
echo "python$version: device-side tests"
"$venv/bin/python" -m pytest -q --durations=0 --durations-min=20 -p no:cacheprovider "$@"
