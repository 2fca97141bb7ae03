"""Every bound of a device, with its unit in its name. Overflow is a decision of the core, taken where the bound is."""

import msgspec


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults suit a board on a wireless mesh; ``[limits]`` in daemon.toml overrides any of them."""

    # Admission at the head.
    open_works_max: int = 4000  # over all sources; each source has its own queue_works_max as well
    journal_bytes_max: int = 256 * 2**20  # inputs of open works and answers still remembered
    answer_memory_s: float = 300.0  # the same id submitted again within this time gets the same answer
    submit_bytes_max: int = 8 * 2**20

    # The queue of a worker, and what it promises.
    works_ahead_max: int = 2  # a class is cleared to send while fewer works at or above it are queued or promised
    queue_works_max: int = 64  # over all classes
    tensor_bytes_max: int = 64 * 2**20
    reservation_s: float = 1.0  # how long a CTC holds room, on top of the time until the tensor can be here
    lag_s_max: float = 30.0  # how much later than calibrated a tensor may be taken to come, whatever was seen
    parked_max: int = 64  # RTCs that wait for room
    parked_s: float = 0.5
    batch_stretch_max: float = 3.0  # a batch lasts at most so many times its segment alone: a more urgent work waits
    drain_short_s: float = 1.0  # a draining segment finishes what is queued for it if that takes less, else hands it on
    promise_s_max: float = 600.0  # expected seconds beyond which a request is nonsense

    # Asking.
    asks_max: int = 4  # RTCs in the air per device, counted among works at or above a work's class
    ask_s: float = 1.0  # without an answer for so long, the next best worker is asked
    avoid_s: float = 0.1  # how long a worker that refused is not asked again, unless it says something new
    outputs_max: int = 4  # works of a class, ready to leave, beyond which no further one of that class is started
    resend_s: float = 3.0  # a tensor neither taken nor refused so long after it should be there is placed again
    no_route_s: float = 30.0  # how long a work may find nobody for its next segment

    # Memory of what was.
    backup_bytes_max: int = 256 * 2**20  # copies kept for others' sake, answers on their way included
    backup_s: float = 200.0
    known_keys_max: int = 50_000
    known_s: float = 240.0  # longer than any retry, shorter than answer_memory_s: an id may then come anew
    finished_batch: int = 64
    finished_every_s: float = 0.1

    # Peers.
    dead_s: float = 2.0  # a link silent so long, with no new life of the peer, means dead; with its will, at once
    beacon_min_s: float = 0.02
    beacon_max_s: float = 1.0
    beacon_change_s: float = 0.005  # a change of backlog worth telling

    # Replay at the head.
    where_s: float = 1.0
    replay_share: float = 0.1  # replays per admission, on average
    replay_burst: int = 20
    replay_trickle_hz: float = 0.2  # replays in a fleet that admits nothing, so that none waits for ever
    replay_s_max: float = 120.0  # however patient: after so long a work is asked for again
    asks_for_works_hz: float = 1000.0  # works asked for per second when a device has died
    attempts_total_max: int = 10  # over all lives of the head, which do not count towards a source's attempts_max
    restart_grace_s: float = 1.5  # after a restart: time for links to come back before open works are replayed

    def __post_init__(self) -> None:
        retries_s = max(self.backup_s, self.replay_s_max + self.where_s, self.no_route_s)
        if not retries_s < self.known_s < self.answer_memory_s:
            raise ValueError(
                f"known_s ({self.known_s:g}) must exceed every retry (backup_s, replay_s_max, no_route_s: "
                f"{retries_s:g}) and stay below answer_memory_s ({self.answer_memory_s:g})"
            )
