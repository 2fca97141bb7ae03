#!/bin/sh
# Install pamdi as a service of this machine. Called by `make install-service`; everything is a variable:
#
#   ROLE        daemon (default), controller, or both
#   PREFIX      the virtual environment of the services      /opt/pamdi
#   SYSCONFDIR  configuration                                /etc
#   BINDIR      where the command pamdi is linked            /usr/local/bin
#   UNITDIR     where systemd finds units                    SYSCONFDIR/systemd/system
#   PYTHON      the system's Python, 3.8 or later            python3
#   EXTRAS      back ends to install with a daemon           onnxruntime
#   DESTDIR     stage the files below this folder, for a package: nothing is run, and no environment is made
#
# Run again, it updates code and units and leaves configuration as it is. The environment sees the system's packages,
# because TensorRT comes with JetPack and not from pip.
set -eu

ROLE=${ROLE:-daemon}
PREFIX=${PREFIX:-/opt/pamdi}
SYSCONFDIR=${SYSCONFDIR:-/etc}
BINDIR=${BINDIR:-/usr/local/bin}
UNITDIR=${UNITDIR:-$SYSCONFDIR/systemd/system}
PYTHON=${PYTHON:-python3}
EXTRAS=${EXTRAS-onnxruntime}
DESTDIR=${DESTDIR:-}
source=$(cd "$(dirname "$0")/.." && pwd)

fail() {
  echo "install-service: $*" >&2
  exit 1
}

case $ROLE in
  daemon | controller) roles=$ROLE ;;
  both) roles="daemon controller" ;;
  *) fail "ROLE=$ROLE: choose daemon, controller or both" ;;
esac
[ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || fail "needs root: sudo make install-service ROLE=$ROLE (or DESTDIR=... to stage)"

# A home is closed to the services (ProtectHome), and mostly to their user: a Python of pyenv or conda there would install
# and never run.
refuse_home() {
  real=$("$PYTHON" -c 'import os, sys; print(os.path.realpath(sys.base_prefix))') || fail "PYTHON=$PYTHON does not run"
  case $real/ in
    /root/* | /home/* | /run/user/*) fail "PYTHON=$PYTHON is in $real, which the services cannot read: PYTHON=/usr/bin/python3" ;;
  esac
}

# What pip says when it reaches no index is of versions in conflict.
pip_install() {
  "$PREFIX/bin/python" -m pip install -q -c "$pins" "$@" ||
    fail "pip could not fill $PREFIX: where this machine reaches no package index, name one (PIP_INDEX_URL, PIP_FIND_LINKS); then run this again"
}

make_environment() {
  export PYTHONNOUSERSITE=1  # packages in root's home count as absent: the services do not see them
  refuse_home
  version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "PYTHON=$PYTHON does not run"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 8))' || fail "$PYTHON is $version: 3.8 or later is needed"
  "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || fail "$PYTHON cannot make a venv: apt install python3-venv"
  pins=$source/constraints/py$version.txt
  if [ ! -f "$pins" ]; then
    pins=$source/constraints/py3.12.txt
    echo "install-service: no pins for Python $version: those of $pins are used"
  fi
  echo "install-service: installing into $PREFIX with Python $version"
  "$PYTHON" -m venv --system-site-packages "$PREFIX"
  pip_install -U setuptools wheel
  # From a copy, so that an old build/ adds nothing, and with links followed (cp -L): very old pips do not.
  copy=$(mktemp -d)
  trap 'rm -rf "$copy"' EXIT
  cp "$source/setup.py" "$source/pyproject.toml" "$source/README.md" "$source/LICENSE" "$copy"
  cp -RL "$source/src" "$copy/src"
  target=$copy${1:+[$1]}
  pip_install --no-build-isolation "$target"
  pip_install --no-deps --force-reinstall --no-build-isolation "$copy"
}

# put MODE FILE TARGET: PREFIX and SYSCONFDIR are written into what names them.
put() {
  mkdir -p "$(dirname "$DESTDIR$3")"
  sed -e "s,/opt/pamdi/,$PREFIX/,g" -e "s,/etc/pamdi/,$SYSCONFDIR/pamdi/,g" "$2" >"$DESTDIR$3.new"
  chmod "$1" "$DESTDIR$3.new"
  mv "$DESTDIR$3.new" "$DESTDIR$3"
  echo "install-service: $DESTDIR$3"
}

case $ROLE in controller) extras= ;; *) extras=$EXTRAS ;; esac
[ -n "$DESTDIR" ] || make_environment "$extras"

put 644 "$source/systemd/sysusers.conf" "$SYSCONFDIR/sysusers.d/pamdi.conf"
put 644 "$source/systemd/tmpfiles.conf" "$SYSCONFDIR/tmpfiles.d/pamdi.conf"
for role in $roles; do
  put 644 "$source/systemd/pamdi-$role.service" "$UNITDIR/pamdi-$role.service"
  if [ -e "$DESTDIR$SYSCONFDIR/pamdi/$role.toml" ]; then
    echo "install-service: $DESTDIR$SYSCONFDIR/pamdi/$role.toml is there and stays as it is"
  else
    put 640 "$source/examples/$role.toml" "$SYSCONFDIR/pamdi/$role.toml"
  fi
done
mkdir -p "$DESTDIR$BINDIR"
ln -sfn "$PREFIX/bin/pamdi" "$DESTDIR$BINDIR/pamdi"
echo "install-service: $DESTDIR$BINDIR/pamdi -> $PREFIX/bin/pamdi"
if [ -n "$DESTDIR" ]; then
  echo "install-service: staged without its environment: the package makes one in $PREFIX (pip install pamdi) when it is installed"
  exit 0
fi

if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers "$SYSCONFDIR/sysusers.d/pamdi.conf"
  systemd-tmpfiles --create "$SYSCONFDIR/tmpfiles.d/pamdi.conf"
else
  echo "install-service: no systemd here: make the user pamdi and the folders of tmpfiles.d/pamdi.conf by hand"
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload
for role in $roles; do
  echo "next: edit $SYSCONFDIR/pamdi/$role.toml, then: sudo systemctl enable --now pamdi-$role"
done
echo "what is missing or wrong: sudo pamdi doctor"
