"""What the watchdog is fed by: the daemon as a whole makes progress.

systemd restarts a daemon that does not say so in time. Three things can hang, and each says so in its own way: the
loop, which then cannot ask here; the thread that runs engines, in a driver that does not come back; the thread that
loads them, likewise. An engine that merely runs long is no reason: it may take many times its calibrated seconds, in
full, however many of them have gone by; and a pull from a slow store is none, since it has limits of its own.
"""

import asyncio
from typing import Callable, NamedTuple, Optional

from pamdi.daemon.notify import Notifier

RUN_S_MAX = 10.0  # of a segment, at least
RUN_STRETCH_MAX = 20.0  # times its calibrated seconds
LOAD_S_MAX = 600.0  # of the back end's own part in a load
EVERY_S = 10.0  # where no watchdog says how often


class InHand(NamedTuple):
    """What the two threads of the engine room are at. ``running_s``: since the segment in the air was started, None
    while there is none; ``run_s``: what it takes by its calibration; ``loading_s``: since the back end began to
    load. ``journal``: whether its thread is alive."""

    running_s: Optional[float]
    run_s: float
    loading_s: Optional[float]
    journal: bool


def stuck(now: InHand) -> str:
    """What no longer makes progress, or ""."""
    if now.running_s is not None and now.running_s >= max(RUN_S_MAX, RUN_STRETCH_MAX * now.run_s):
        return f"a segment has been running for {now.running_s:.0f} s"
    if now.loading_s is not None and now.loading_s >= LOAD_S_MAX:
        return f"an engine has been loading for {now.loading_s:.0f} s"
    return "" if now.journal else "the journal's thread has ended"


async def feed_watchdog(notifier: Notifier, in_hand: Callable[[], InHand], log: Callable[[str], None]) -> None:
    """For ever, three times per interval. One line when it stops feeding, one when it goes on."""
    every_s = notifier.watchdog_s / 3 if notifier.watchdog_s else EVERY_S
    hungry = False
    while True:
        await asyncio.sleep(every_s)
        why = stuck(in_hand())
        if not why:
            notifier.watchdog()
        if bool(why) != hungry:
            log(f"{why}: no watchdog until it ends" if why else "the watchdog is fed again")
        hungry = bool(why)
