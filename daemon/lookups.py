"""Names of neighbours. A lookup takes as long as the resolver wants, long where its server is silent, and nothing ends
it: who gives up and asks again leaves one behind each time.

So a dial waits for its lookup, however long that takes. Threads of ours ask, a few at a time, and not the event loop:
uvloop's own lookups cannot be left behind at the end, and complain when nobody wants them any longer.
"""

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import List

THREAD = "lookup"
AT_ONCE_MAX = 4


class Lookups:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE_MAX, THREAD)

    async def addresses(self, host: str) -> List[str]:
        """All that ``host`` is known by, best first; itself where it is an address. Raises OSError, and ValueError for
        what cannot be a name."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, _asked, host)
            return list(dict.fromkeys(found))

    def close(self) -> None:
        self._threads.shutdown(wait=False)


def _asked(host: str) -> List[str]:
    return [str(address[0]) for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
