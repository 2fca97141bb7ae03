"""What `make install-service` puts on a machine, read by systemd's own tools."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest

from pamdi.daemon.config import read_config

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("daemon", "controller")
EXPOSURE_MAX = {"daemon": 2.5, "controller": 2.0}  # systemd's scale: 0 is closed, 10 is open

needs_systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
needs_root_and_systemd = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("systemd-sysusers") is None, reason="needs root and systemd's tools"
)


def _install(destination: Path, role: str = "both", **variables: str) -> "subprocess.CompletedProcess[str]":
    assignments = [
        f"{name}={value}" for name, value in {"DESTDIR": str(destination), "ROLE": role, **variables}.items()
    ]
    command = ["make", "--no-print-directory", "-C", str(ROOT), "install-service", *assignments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture()
def staged(tmp_path: Path) -> Path:
    """A staged installation whose program is a stand-in, so that systemd finds something to start."""
    program = tmp_path / "prefix" / "bin" / "pamdi"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    done = _install(tmp_path / "root", PREFIX=str(tmp_path / "prefix"))
    assert done.returncode == 0, done.stderr
    return tmp_path / "root"


def _directives(role: str) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    for line in (ROOT / "systemd" / f"pamdi-{role}.service").read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            found.setdefault(line.split("=")[0], []).append(line.split("=", 1)[1])
    return found


def test_both_roles_land_where_an_administrator_looks_for_them(staged: Path) -> None:
    files = {str(path.relative_to(staged)) for path in (staged / "etc").rglob("*") if path.is_file()}
    assert files == {
        "etc/pamdi/controller.toml",
        "etc/pamdi/daemon.toml",
        "etc/systemd/system/pamdi-controller.service",
        "etc/systemd/system/pamdi-daemon.service",
        "etc/sysusers.d/pamdi.conf",
        "etc/tmpfiles.d/pamdi.conf",
    }
    assert os.readlink(staged / "usr/local/bin/pamdi") == str(staged.parent / "prefix/bin/pamdi")


def test_prefix_and_configuration_folder_are_written_into_the_units(tmp_path: Path) -> None:
    assert _install(tmp_path, "daemon", PREFIX="/srv/pamdi", SYSCONFDIR="/usr/etc").returncode == 0
    unit = (tmp_path / "usr/etc/systemd/system/pamdi-daemon.service").read_text(encoding="utf-8")
    assert "ExecStart=/srv/pamdi/bin/pamdi daemon --config /usr/etc/pamdi/daemon.toml\n" in unit
    assert not (tmp_path / "usr/etc/systemd/system/pamdi-controller.service").exists()


def test_an_update_leaves_the_configuration_as_it_is(staged: Path) -> None:
    config = staged / "etc/pamdi/daemon.toml"
    config.write_text("id = 'mine'\n")
    assert _install(staged, "daemon").returncode == 0
    assert config.read_text() == "id = 'mine'\n"


@needs_root_and_systemd
@pytest.mark.parametrize("home", ["/root/.pyenv/versions/3.11.7", "/home/me/miniforge3"])
def test_a_python_that_the_services_cannot_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # were it not refused, nothing would be installed either
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\ncase $2 in *realpath*) echo {home} ;; *) exec {sys.executable} "$@" ;; esac\n')
    python.chmod(0o755)
    done = _install(Path(), "daemon", DESTDIR="", PREFIX=str(tmp_path / "prefix"), SYSCONFDIR=str(tmp_path / "etc"),
                    BINDIR=str(tmp_path / "bin"), PYTHON=str(python))  # fmt: skip
    assert done.returncode != 0
    assert f"install-service: PYTHON={python} is in {home}, which the services cannot read" in done.stderr
    assert not (tmp_path / "prefix").exists() and not (tmp_path / "etc").exists()


@needs_root_and_systemd
def test_without_a_package_index_the_cure_is_said(tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    if not os.path.exists(python) or subprocess.run([python, "-c", "import ensurepip"]).returncode != 0:
        pytest.skip("no /usr/bin/python3 that can make a venv")
    command = ["make", "-C", str(ROOT), "install-service", f"PREFIX={tmp_path}/prefix", f"SYSCONFDIR={tmp_path}/etc",
               f"BINDIR={tmp_path}/bin", f"PYTHON={python}"]  # fmt: skip
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **nowhere})
    assert done.returncode != 0
    assert "where this machine reaches no package index, name one" in done.stderr
    assert not (tmp_path / "etc").exists()


def test_an_unknown_role_is_refused_in_one_line(tmp_path: Path) -> None:
    done = _install(tmp_path, "worker")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "install-service: ROLE=worker: choose daemon, controller or both"
    assert list(tmp_path.iterdir()) == []


@needs_systemd_analyze
@pytest.mark.parametrize("role", ROLES)
def test_systemd_has_nothing_to_say_about_the_unit(staged: Path, role: str) -> None:
    command = ["systemd-analyze", "verify", str(staged / f"etc/systemd/system/pamdi-{role}.service")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@needs_systemd_analyze
def test_the_silence_is_worth_something_because_a_mistyped_key_breaks_it(staged: Path) -> None:
    unit = staged / "etc/systemd/system/pamdi-daemon.service"
    unit.write_text(unit.read_text(encoding="utf-8").replace("WatchdogSec=", "WatchDogSeconds="), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], stderr=subprocess.PIPE, text=True)
    assert "WatchDogSeconds" in done.stderr


@needs_systemd_analyze
@pytest.mark.parametrize("role", ROLES)
def test_the_exposure_that_systemd_computes_is_below_its_bound(staged: Path, role: str) -> None:
    unit = staged / f"etc/systemd/system/pamdi-{role}.service"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found.group(1)) <= EXPOSURE_MAX[role]


@pytest.mark.parametrize("role", ROLES)
def test_the_unit_is_notified_watched_restarted_and_drained(role: str) -> None:
    said = _directives(role)
    assert said["Type"] == ["notify"]
    assert said["Restart"] == ["on-failure"]
    assert said["RuntimeDirectoryPreserve"] == ["yes"]
    assert said["TimeoutStartSec"] == ["infinity"]  # a broker that is away at boot is waited for
    assert int(said["WatchdogSec"][0]) > 0
    assert {"StartLimitIntervalSec", "StartLimitBurst"} <= set(said)


def test_the_daemon_has_time_to_drain_before_systemd_kills_it(staged: Path) -> None:
    drain_s = read_config(staged / "etc/pamdi/daemon.toml").drain_s
    assert int(_directives("daemon")["TimeoutStopSec"][0]) >= 2 * drain_s


def test_nothing_in_the_daemons_unit_hides_the_gpu() -> None:
    hiding = {"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "PrivateUsers", "MemoryDenyWriteExecute"}
    assert hiding & set(_directives("daemon")) == set()


@pytest.mark.parametrize("role", ROLES)
def test_every_group_of_lines_in_the_unit_has_its_reason_above_it(role: str) -> None:
    lines = (ROOT / "systemd" / f"pamdi-{role}.service").read_text(encoding="utf-8").splitlines()
    service = lines[lines.index("NoNewPrivileges=yes") - 1 : lines.index("[Install]")]
    comments = [line for line in service if line.startswith("#")]
    assert service[0].startswith("#")
    assert len(comments) >= 7


@needs_root_and_systemd
def test_users_and_folders_are_made_with_the_rights_that_the_services_need(staged: Path) -> None:
    (staged / "etc/pamdi/daemon.env").write_text("PAMDI_BROKER_USER=d0\n")
    (staged / "etc/pamdi/daemon.env").chmod(0o644)
    for tool in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        config = "sysusers.d" if "sysusers" in tool[0] else "tmpfiles.d"
        command = [*tool, f"--root={staged}", str(staged / "etc" / config / "pamdi.conf")]
        subprocess.run(command, check=True, stderr=subprocess.PIPE)
    groups = dict(line.split(":", 1) for line in (staged / "etc/group").read_text().splitlines())
    assert groups["video"].endswith(":pamdi")
    assert groups["render"].endswith(":pamdi")
    user = (staged / "etc/passwd").read_text().splitlines()[-1].split(":")
    env = (staged / "etc/pamdi/daemon.env").stat()
    assert user[0] == "pamdi"
    assert (env.st_uid, env.st_gid, env.st_mode & 0o777) == (0, int(user[3]), 0o640)
    assert (staged / "var/lib/pamdi/store").stat().st_uid == int(user[2])
