"""A line of a service's log, on standard error: journald adds the time, a person who runs it by hand sees the line.

Whoever reads may go (``2>&1 | tee``, of which Ctrl-C ends the ``tee`` first), and a disk may be full. A service goes on
unheard then: an error here would come up wherever something is said, and keep it from stopping when it is told to.
"""

import contextlib
import os
import sys


def log_line(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        _nobody_reads()
    except (OSError, ValueError):  # ValueError: closed at our own end
        return


def _nobody_reads() -> None:
    """What could not be written is tried once more when Python ends, and makes an exit status of 120 of any other."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)
