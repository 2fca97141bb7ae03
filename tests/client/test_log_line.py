"""A service's log outlives its reader."""

import os
import subprocess
import sys

import pytest

from pamdi.client.log_line import log_line

SAYS = """
import sys
from pamdi.client.log_line import log_line
sys.stdin.read()
log_line("nobody reads this")
log_line("nor this")
"""


def test_a_line_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    log_line("link to d2 is up")
    assert capsys.readouterr().err == "link to d2 is up\n"


def test_who_says_something_to_nobody_ends_well() -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    said = subprocess.Popen([sys.executable, "-c", SAYS], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered)
    assert said.stdin is not None and said.stderr is not None
    said.stderr.close()
    said.stdin.close()
    assert said.wait(60.0) == 0
