"""A process that writes works into a journal as fast as it can and says what was written, until it is killed.

python -m tests.daemon.journal_writer RUNTIME_DIR STATE_DIR memory|disk
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from pamdi.core.events import JournalWritten
from pamdi.core.instructions import JournalFinal, JournalOpen
from pamdi.core.work import WorkId
from pamdi.daemon.journal import Journal


def say(event: Any) -> None:
    """One whole line per record, so that what stands there was reported."""
    verdict = "written" if isinstance(event, JournalWritten) else "refused"
    sys.stdout.write(f"{verdict} {event.work.id} {'final' if event.final else 'open'}\n")
    sys.stdout.flush()


def main() -> None:
    runtime_dir, state_dir, durability = sys.argv[1:]
    journal = Journal(Path(runtime_dir), Path(state_dir), say, lambda line: print(line, file=sys.stderr))
    journal.restore()
    journal.start()
    durable = durability == "disk"
    for number in range(100_000):
        work = WorkId("s", str(number))
        payload = {"x": np.full(500, number, "int32")}
        journal.put(JournalOpen(work, f"digest {number}", payload, 0.0, None, None, durable))
        if number % 3 == 0:
            journal.put(JournalFinal(work, f"digest {number}", "answered", "", "", 0.1, (), payload, durable))


if __name__ == "__main__":
    main()
