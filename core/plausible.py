"""A peer may be buggy: what it says is typed, but its numbers may still be nonsense.

A NaN in a heap or an urgency of zero in a ratio would do harm long after the message that brought it, so numbers are
looked at where they come in. A message with a complaint is counted and dropped; a request or a tensor is refused, so
that its sender keeps the work and asks elsewhere.
"""

from typing import Any, Callable, Dict, Optional, Tuple, Type

from pamdi.core.messages import Answer, AnyMessage, Backlog, Ctc, ReadySegment, Refusal, Revoked, Rtc, Tensor
from pamdi.core.work import Key, Work

SECONDS_MAX = 1e9
COUNT_MAX = 10**9
URGENCY_MAX = 1e12


def complaint(message: AnyMessage, promise_s_max: float) -> str:
    """What is wrong with the numbers of ``message``, or "". ``promise_s_max``: the longest time that may be asked
    for or granted. Beacons are most of all messages: ``Peers.heard`` looks only at what is new in one."""
    check = _CHECKS.get(type(message))
    return check(message, promise_s_max) if check is not None else ""


def complaint_of_segments(ready: Tuple[ReadySegment, ...]) -> str:
    """Of a beacon, what it says is ready."""
    for segment in ready:
        if not (0 <= segment.first < segment.stop and 0.0 <= segment.seconds <= SECONDS_MAX):
            return "segments out of range"
    return ""


def complaint_of_backlog(backlog: Backlog) -> str:
    for entry in backlog.classes:
        if not (0.0 < entry.urgency <= URGENCY_MAX and 0.0 <= entry.seconds <= SECONDS_MAX):
            return "a backlog out of range"
    return "" if 0.0 <= backlog.running_s <= SECONDS_MAX else "a backlog out of range"


def _seconds(value: Optional[float]) -> bool:
    """Comparisons with NaN are false, so this refuses it too."""
    return value is None or 0.0 <= value <= SECONDS_MAX


def _left(value: Optional[float]) -> bool:
    return value is None or -SECONDS_MAX <= value <= SECONDS_MAX


def _key(key: Key) -> bool:
    return 0 <= key.attempt <= COUNT_MAX and 0 <= key.step <= COUNT_MAX and 0 <= key.boundary <= COUNT_MAX


def _work(work: Work, _: float) -> str:
    if not _key(work.key) or not 0 <= work.resent <= COUNT_MAX:
        return f"counts out of range in {work.key}"
    if not 0.0 < work.urgency <= URGENCY_MAX:
        return f"an urgency of {work.urgency}"
    if not (_seconds(work.age_s) and _left(work.left_s) and _seconds(work.age_s_max)):
        return f"ages {work.age_s}, {work.left_s}, {work.age_s_max}"
    return ""


def _rtc(rtc: Rtc, promise_s_max: float) -> str:
    if not _key(rtc.key) or not rtc.nbytes >= 0:
        return f"counts out of range in {rtc.key}, {rtc.nbytes} bytes"
    if not 0.0 < rtc.urgency <= URGENCY_MAX:
        return f"an urgency of {rtc.urgency}"
    if not (0.0 <= rtc.expected_s <= promise_s_max and 0.0 <= rtc.ready_in_s <= promise_s_max):
        return f"expects {rtc.expected_s} s in {rtc.ready_in_s} s"
    return "" if _seconds(rtc.age_s) and _left(rtc.left_s) else f"ages {rtc.age_s}, {rtc.left_s}"


def _ctc(ctc: Ctc, promise_s_max: float) -> str:
    if not 0.0 <= ctc.for_s <= 4 * promise_s_max:
        return f"a promise for {ctc.for_s} s"
    return complaint_of_backlog(ctc.backlog)


_CHECKS: Dict[Type[Any], Callable[[Any, float], str]] = {
    Rtc: _rtc,
    Ctc: _ctc,
    Refusal: lambda m, _: complaint_of_backlog(m.backlog),
    Revoked: lambda m, _: complaint_of_backlog(m.backlog),
    Tensor: lambda m, limit_s: _work(m.work, limit_s),
    Answer: lambda m, limit_s: _work(m.work, limit_s),
}
