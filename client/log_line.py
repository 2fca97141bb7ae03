"""A line of a service's log, on standard error: journald adds the time, a person who runs it by hand sees the line.

Whoever reads may go (``2>&1 | tee``, of which Ctrl-C ends the ``tee`` first), and a disk may be full. A service goes on
unheard then: an error here would come up wherever something is said, and keep it from stopping when it is told to.
"""

import contextlib
import sys


def log_line(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # ValueError: closed at our own end
        print(line, file=sys.stderr, flush=True)
