"""Whatever is said on a topic that a daemon listens to, it lives on and admits the next good work."""

from collections import Counter

from benchmarks.fuzz_payloads import LIFE_MESSAGES, fuzz_a_daemon


def test_a_daemon_outlives_three_lives_of_damaged_messages() -> None:
    taken: "Counter[str]" = fuzz_a_daemon(3 * LIFE_MESSAGES, 1)
    assert sum(taken.values()) == 3 * LIFE_MESSAGES
    assert set(taken) == {"submit", "cancel", "set", "state", "ask", "normal"}
