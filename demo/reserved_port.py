"""A port on loopback that stays ours until somebody of ours listens on it, and while nobody does.

A port that was merely free a moment ago may be somebody's when it is wanted: of the next who asks the system for any,
or of a connection that goes out, to which the system gives a number from the same range (and which, where nobody
listens, can even meet itself there). A socket that is bound and does not listen keeps both away. It lets in who asks
for just this port with SO_REUSEADDR, as brokers and our daemons do; until then callers are refused.
"""

import socket
from typing import Tuple


def reserved_port() -> Tuple[int, socket.socket]:
    """The port, and what keeps it until it is closed."""
    keeper = socket.socket()
    try:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        return int(keeper.getsockname()[1]), keeper
    except OSError:
        keeper.close()
        raise
