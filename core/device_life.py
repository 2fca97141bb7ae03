"""The life of a device as the controller sees it.

A device is *unknown* until it has said that it is online: a retained ``offline`` or ``stopped`` of somebody who was
never seen alive is the ghost of an old fleet, and nothing is planned for it. Its will makes it *suspect*: it keeps
its place in the plan for a while, because a restart is quicker than a reallocation, but it gets nothing new. If it
has not come back when that time is over (``overdue``) it is *gone*, and what it held goes elsewhere. A device that
says ``stopped`` leaves at once: it drained before it said so. *stopped* and *gone* differ for people only: one was
meant, the other should be looked after.

``overdue`` comes from the controller's own clock, which it runs for suspect devices alone; hence the refused pairs.
"""

from pamdi.core.table import Table

DEVICE = Table(
    name="device",
    initial="unknown",
    states=("unknown", "online", "suspect", "stopped", "gone"),
    events=("online", "offline", "stopped", "overdue"),
    moves={
        "unknown": {"online": "online", "offline": "unknown", "stopped": "unknown"},
        "online": {"online": "online", "offline": "suspect", "stopped": "stopped"},
        "suspect": {"online": "online", "offline": "suspect", "stopped": "stopped", "overdue": "gone"},
        "stopped": {"online": "online", "offline": "stopped", "stopped": "stopped"},
        "gone": {"online": "online", "offline": "gone", "stopped": "stopped"},
    },
    refused=frozenset({(state, "overdue") for state in ("unknown", "online", "stopped", "gone")}),
)
