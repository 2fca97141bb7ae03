"""What a hop adds: a tensor handed to another daemon process and back in a word, beside a bare TCP echo of its bytes.

    python -m benchmarks.hop [--bytes 65536] [--rounds 400] [--json]

Two processes on loopback. One hop is what the protocol does: RTC, CTC, tensor, taken. Rounds of the three variants
(bare TCP, tensor and taken, whole hop) take turns in one run, so that the machine's moods hit all alike.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import socket
import statistics
import sys
import time
from typing import Any, Dict, List

import numpy as np
import uvloop

from pamdi.core import messages as ms
from pamdi.core.allocation import Neighbour
from pamdi.core.events import LinkUp, Received
from pamdi.core.work import Key, Work
from pamdi.daemon.links import Links

HOP_MS_MAX = 1.5
HOP = "RTC, CTC, tensor, taken"
RUN_S_MAX = 120.0


def peer(ports: Any, nbytes: int) -> None:
    """The other device: clears every RTC, takes every tensor; and a bare TCP server that answers 16 bytes."""
    uvloop.install()
    asyncio.run(_peer(ports, nbytes))


async def _peer(ports: Any, nbytes: int) -> None:
    def happened(event: Any) -> None:
        if isinstance(event, Received) and isinstance(event.message, ms.Rtc):
            links.send("a", ms.Ctc(event.message.key, 1.0))
        elif isinstance(event, Received) and isinstance(event.message, ms.Tensor):
            links.send("a", ms.Taken(event.message.work.key))

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readexactly(nbytes)
                writer.write(b"0" * 16)
        writer.close()

    links = Links("b", 1, happened, time.monotonic)
    await links.listen("127.0.0.1", 0)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    ports.send((links.port, server.sockets[0].getsockname()[1]))
    await asyncio.sleep(3600)


async def measure(link_port: int, echo_port: int, nbytes: int, rounds: int) -> Dict[str, List[float]]:
    events: "asyncio.Queue[Any]" = asyncio.Queue()
    links = Links("a", 1, events.put_nowait, time.monotonic)
    await links.listen("127.0.0.1", 0)
    links.set_neighbours((Neighbour("b", "127.0.0.1", link_port),))
    while not isinstance(await events.get(), LinkUp):
        continue
    reader, writer = await asyncio.open_connection("127.0.0.1", echo_port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    payload = {"x": np.zeros(nbytes // 4, np.float32)}
    raw = payload["x"].tobytes()
    times: Dict[str, List[float]] = {"bare TCP": [], "tensor, taken": [], HOP: []}

    async def answer(kind: type) -> None:
        while not isinstance(getattr(await events.get(), "message", None), kind):
            continue

    for i in range(rounds + 20):
        key = Key("s", str(i), 0, 0, 1)
        began = time.perf_counter()
        writer.write(raw)
        await reader.readexactly(16)
        bare = time.perf_counter()
        links.send("b", ms.Tensor(Work(key, "m", "a", 1.0, 0.0)), payload, 1.0)
        await answer(ms.Taken)
        sent = time.perf_counter()
        links.send("b", ms.Rtc(key, "m", 1.0, nbytes, 0.01))
        await answer(ms.Ctc)
        links.send("b", ms.Tensor(Work(key, "m", "a", 1.0, 0.0)), payload, 1.0)
        await answer(ms.Taken)
        done = time.perf_counter()
        if i >= 20:  # the first rounds warm up
            for name, seconds in zip(times, (bare - began, sent - bare, done - sent)):
                times[name].append(seconds)
    await links.close(0.1)
    writer.close()
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=65536)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=peer, args=(theirs, arguments.bytes), daemon=True)
    process.start()
    uvloop.install()
    link_port, echo_port = ours.recv()
    run = measure(link_port, echo_port, arguments.bytes, arguments.rounds)
    times = asyncio.run(asyncio.wait_for(run, RUN_S_MAX))
    process.kill()
    times["the hop less bare TCP"] = [hop - bare for hop, bare in zip(times[HOP], times["bare TCP"])]
    rows = {}
    for name, seconds in times.items():
        ordered = sorted(seconds)
        rows[name] = {"p50_ms": statistics.median(ordered) * 1e3, "p99_ms": ordered[int(0.99 * len(ordered))] * 1e3}
    whole_ms = rows[HOP]["p50_ms"]
    if arguments.json:
        print(json.dumps({"bytes": arguments.bytes, "rows": rows}))
    else:
        print(f"{arguments.bytes} bytes, two processes on loopback, {arguments.rounds} rounds of each in turn")
        for name, row in rows.items():
            ratio = row["p50_ms"] / rows["bare TCP"]["p50_ms"]
            print(f"  {name:26} p50 {row['p50_ms']:.3f} ms  p99 {row['p99_ms']:.3f} ms  {ratio:.1f} x bare TCP")
        print(f"{'holds ' if whole_ms < HOP_MS_MAX else 'BROKEN'} a hop's p50: {whole_ms:.3f} < {HOP_MS_MAX} ms")
    return 0 if whole_ms < HOP_MS_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
