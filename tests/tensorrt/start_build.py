"""A build in a process of its own, on a machine that says it is an orin-nano. usage: start_build.py FOLDER"""

import sys
from pathlib import Path

from pamdi.engines.build import Step, Wanted, build
from pamdi.engines.here import Here


def show(step: Step) -> None:
    if step.engine is not None:
        print(step.engine.file, flush=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Wanted("orin-nano"), Here("orin-nano", "a test", 8 << 30), show)
