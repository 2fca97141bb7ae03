"""What the device counts stays bounded, whatever priorities its clients choose."""

from pamdi.daemon.stats import CLASSES_MAX, LATENCIES_MAX, Stats


def test_a_client_that_chooses_another_gamma_for_every_work_makes_nothing_grow() -> None:
    stats = Stats()
    for number in range(10 * CLASSES_MAX):
        stats.ended(10.0, "answered", 0.1)
        stats.ended(1.0 + number / 1000, "answered", 0.1)
    assert len(stats._latencies) == CLASSES_MAX and len(stats._latencies[10.0]) == 10 * CLASSES_MAX
    for _ in range(2 * LATENCIES_MAX):
        stats.ended(10.0, "answered", 0.1)
    assert len(stats._latencies[10.0]) == LATENCIES_MAX
