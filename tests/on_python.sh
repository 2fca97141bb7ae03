#!/bin/sh
# Run the device side's tests on one Python version, in a venv of its own, or say that the version is absent.
# usage: on_python.sh 3.8 tests/core tests/daemon ...
set -eu
version=$1
shift
python=$(.ci/find-python "$version") || {
  echo "python$version: absent, device-side tests not run on it"
  exit 0
}
venv=.venv-$version
constraints=constraints/py$version.txt
if [ ! -f "$venv/ready" ] || [ "$constraints" -nt "$venv/ready" ] || [ setup.py -nt "$venv/ready" ]; then
  echo "python$version: making $venv"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install -q -c "$constraints" setuptools wheel
  "$venv/bin/python" -m pip install -q -c "$constraints" --no-build-isolation -e '.[test]'
  touch "$venv/ready"
fi
echo "python$version: device-side tests"
exec "$venv/bin/python" -m pytest -x -q --durations=3 -p no:cacheprovider "$@"
