"""Real brokers for tests: mosquitto where it is installed, and the embedded one (amqtt) in a process of its own.

    broker = start_mosquitto(tmp_path)          # .url, .pid, .kill() (SIGKILL), .restart(), .stop()
    broker = start_amqtt(tmp_path)

A broker keeps its port over ``restart``, so that what was connected finds it again. Ports are free ones on loopback.
Call ``stop`` at the end; ``running`` does so on its own: ``with running(start_mosquitto(tmp_path)) as broker:``.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional

from pamdi.demo.reserved_port import reserved_port

READY_S = 60.0
SRC = Path(__file__).resolve().parent.parent / "src"


_kept: List[socket.socket] = []


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses, and that nobody but who is told of it will use while the
    tests run."""
    port, keeper = reserved_port()
    _kept.append(keeper)
    return port


def mosquitto_path() -> Optional[str]:
    """The mosquitto program, which Debian keeps off the PATH of ordinary users."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def have_mosquitto() -> bool:
    return mosquitto_path() is not None


def have_amqtt() -> bool:
    """amqtt runs on Python 3.10 and later."""
    try:
        import amqtt  # noqa: F401
    except ImportError:
        return False
    return True


class RunningBroker:
    """A broker process. ``url`` is what clients are given; ``log`` is where it writes what it has to say."""

    def __init__(self, command: List[str], port: int, log: Path, scheme: str = "mqtt") -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.log = log
        self._command = command
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        environment = dict(os.environ, PYTHONPATH=str(SRC))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the broker ended at once: {self.log.read_text()[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return
            time.sleep(0.02)
        raise RuntimeError(f"the broker does not listen after {READY_S} s: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL: what it did not write is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for a broker that does not hear."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self) -> None:
        """SIGKILL, then a new life on the same port."""
        self.kill()
        self.start()


@contextlib.contextmanager
def running(broker: RunningBroker) -> Iterator[RunningBroker]:
    try:
        yield broker
    finally:
        broker.stop()


def start_mosquitto(
    tmp_path: Path,
    persistence: bool = False,
    port: Optional[int] = None,
    users: Optional[Dict[str, str]] = None,
    config: str = "",
) -> RunningBroker:
    """``users`` maps names to passwords (none: anonymous); ``config`` is appended to mosquitto.conf."""
    program = mosquitto_path()
    assert program is not None, "mosquitto is not installed"
    port = port or free_port()
    folder = tmp_path / f"mosquitto-{port}"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"listener {port} 127.0.0.1",
        f"allow_anonymous {'false' if users else 'true'}",
        "set_tcp_nodelay true",
        "max_queued_messages 100000",
        f"persistence {'true' if persistence else 'false'}",
    ]
    if persistence:
        lines += [f"persistence_location {folder}/", "autosave_on_changes true", "autosave_interval 1"]
    if os.geteuid() == 0:
        lines.append("user root")  # else it drops privileges and cannot write into the test's folder
    if users:
        passwords = folder / "passwords"
        passwords.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
        lines.append(f"password_file {passwords}")
    path = folder / "mosquitto.conf"
    path.write_text("\n".join([*lines, config, ""]))
    return RunningBroker([program, "-c", str(path)], port, folder / "log")


def start_amqtt(tmp_path: Path, port: Optional[int] = None) -> RunningBroker:
    """The embedded broker, as the demo starts it."""
    port = port or free_port()
    command = [sys.executable, "-m", "pamdi.demo.embedded_broker", "--port", str(port)]
    return RunningBroker(command, port, tmp_path / f"amqtt-{port}.log")
