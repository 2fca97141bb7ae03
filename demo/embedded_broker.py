"""The broker of last resort: amqtt, pure Python, for machines where mosquitto is not on PATH.

    python -m pamdi.demo.embedded_broker --port 1883

It runs in a process of its own, because it is slow and must not share a loop with what it serves; it listens on
loopback only and lets everybody in. One JSON line on standard output says when it listens. SIGTERM ends it.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
from typing import Any, Dict, List, Optional

from amqtt.broker import Broker
from amqtt.errors import BrokerError

CONNECTIONS_MAX = 200


def settings(port: int) -> Dict[str, Any]:
    """Only the plugin that lets anonymous clients in: the defaults also log every packet."""
    return {
        "listeners": {
            "default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": CONNECTIONS_MAX},
        },
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


async def serve(port: int) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    broker = Broker(settings(port))
    try:
        await broker.start()
    except BrokerError as error:
        print(f"the embedded broker cannot listen on 127.0.0.1:{port}: {error}; choose another --port", file=sys.stderr)
        return 1
    print(json.dumps({"url": f"mqtt://127.0.0.1:{port}"}), flush=True)
    await stopping.wait()
    await broker.shutdown()
    return 0


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pamdi.demo.embedded_broker", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1")
    port = parser.parse_args(arguments).port
    logging.basicConfig(level=logging.ERROR, format="embedded broker: %(message)s")
    return asyncio.run(serve(port))


if __name__ == "__main__":
    sys.exit(main())
