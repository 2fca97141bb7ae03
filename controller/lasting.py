"""When something measured may change a plan: far enough from what is planned with, and for long enough.

Two lines, so that what lies between them changes nothing (hysteresis); a delay, so that nothing is done for a flicker.
One mechanism for devices that are slower than their tables (``slowed.py``) and for links that are not what was stated
(``measured_links.py``). ``ratio``: what is measured over what was stated, in seconds; 1 is as stated, 2 twice as slow.

- above what is planned with by ``slow_factor``: "slower";
- what is planned with is not what was stated, and the ratio is back under ``normal_factor``: "normal";
- far below what is planned with, by ``slow_factor``, though not normal: "better".
"""


def wished(ratio: float, planned: float, slow_factor: float, normal_factor: float) -> str:
    """What should become of ``planned`` if this lasts; empty: it stays. ``planned`` is 1 where it is as stated."""
    if ratio > planned * slow_factor:
        return "slower"
    if planned == 1:
        return ""
    if ratio < normal_factor:
        return "normal"
    return "better" if ratio * slow_factor < planned else ""


class Lasting:
    """One wish and since when. Time is an argument; only what is heard counts."""

    def __init__(self) -> None:
        self.heard_at = float("-inf")
        self._wish, self._since = "", 0.0

    def lasts(self, wish: str, now: float, delay_s: float, silent_s: float) -> bool:
        """Whether it has been wished for ``delay_s``, with no silence above ``silent_s``; then it begins anew."""
        silent = now > self.heard_at + silent_s
        self.heard_at = now
        if wish != self._wish or silent:
            self._wish, self._since = wish, now
        if not wish or now < self._since + delay_s:
            return False
        self._wish = ""
        return True

    def forget(self) -> None:
        self._wish = ""
