"""A build in a process of its own, on a machine that says it is an orin-nano. usage: start_build.py FOLDER

KILL_AT=N: kill -9 this process before its N-th step in FOLDER (a file opened, renamed, linked or removed); without it,
the number of steps is the last line printed.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any, Tuple

from pamdi.engines.build import Step, Wanted, build
from pamdi.engines.here import Here

STEPS = frozenset({"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"})


def show(step: Step) -> None:
    if step.engine is not None:
        print(step.engine.file, flush=True)


class Steps:
    """An audit hook: Python tells it of every file operation, before it is done."""

    def __init__(self, folder: str, kill_at: int) -> None:
        self._folder, self._kill_at, self.count = folder, kill_at, 0

    def __call__(self, event: str, arguments: Tuple[Any, ...]) -> None:
        if event in STEPS and str(arguments[0]).startswith(self._folder):
            self.count += 1
            if self.count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    steps = Steps(sys.argv[1], int(os.environ.get("KILL_AT", "0")))
    sys.addaudithook(steps)
    build(Path(sys.argv[1]), Wanted("orin-nano"), Here("orin-nano", "a test", 8 << 30), show)
    print(steps.count)
