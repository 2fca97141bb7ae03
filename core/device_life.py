"""The life of a device as the controller sees it.

A device is *unknown* until it has said both that it is online and what it is. Its will makes it *suspect*: it keeps
its place in the plan for a while, because a restart is quicker than a reallocation; if it has not come back when
that time is over it is *gone*, and what it held goes elsewhere. A device that says ``stopped`` leaves at once:
it drained before it said so.
"""

from pamdi.core.table import Table

DEVICE = Table(
    name="device",
    initial="unknown",
    states=("unknown", "online", "suspect", "gone"),
    events=("online", "offline", "stopped", "overdue"),
    moves={
        "unknown": {"online": "online", "offline": "unknown", "stopped": "unknown"},
        "online": {"online": "online", "offline": "suspect", "stopped": "gone"},
        "suspect": {"online": "online", "offline": "suspect", "stopped": "gone", "overdue": "gone"},
        "gone": {"online": "online", "offline": "gone", "stopped": "gone", "overdue": "gone"},
    },
    refused=frozenset({("unknown", "overdue"), ("online", "overdue")}),
)
