"""The life of a slot: a segment's engine on one device.

Two parties push a slot: the allocation (which *wants* the segment or no longer does) and the engine itself (which
loads, fails, unloads). Two rules explain every row. First, an engine in use is never taken away: an unwanted ready
slot *drains*, it refuses new works and goes only when it is empty. Second, a load that has begun is never
interrupted, because back ends cannot: an unwanted loading slot goes on loading and drains at once when it is ready.

``wanted`` on a draining slot turns it back to ready: its engine is still there, and nothing was lost.
A broken slot stays broken until it is no longer wanted or the allocation names it again with another engine.
"""

from pamdi.core.table import Table

SLOT = Table(
    name="slot",
    initial="absent",
    states=("absent", "loading", "unwanted", "ready", "draining", "unloading", "broken"),
    events=("wanted", "dropped", "loaded", "failed", "empty", "unloaded"),
    moves={
        "absent": {"wanted": "loading", "dropped": "absent"},
        "loading": {"wanted": "loading", "dropped": "unwanted", "loaded": "ready", "failed": "broken"},
        "unwanted": {"wanted": "loading", "dropped": "unwanted", "loaded": "draining", "failed": "absent"},
        "ready": {"wanted": "ready", "dropped": "draining", "empty": "ready"},
        "draining": {"wanted": "ready", "dropped": "draining", "empty": "unloading"},
        "unloading": {"wanted": "unloading", "dropped": "unloading", "unloaded": "absent"},
        "broken": {"wanted": "loading", "dropped": "absent"},
    },
    refused=frozenset(
        {
            ("absent", "loaded"), ("absent", "failed"), ("absent", "empty"), ("absent", "unloaded"),
            ("loading", "empty"), ("loading", "unloaded"),
            ("unwanted", "empty"), ("unwanted", "unloaded"),
            ("ready", "loaded"), ("ready", "failed"), ("ready", "unloaded"),
            ("draining", "loaded"), ("draining", "failed"), ("draining", "unloaded"),
            ("unloading", "loaded"), ("unloading", "failed"), ("unloading", "empty"),
            ("broken", "loaded"), ("broken", "failed"), ("broken", "empty"), ("broken", "unloaded"),
        }
    ),
)  # fmt: skip

# What people see on allocation/state: the two transitional names are details of this table.
PUBLIC = {"unwanted": "loading", "unloading": "draining"}
