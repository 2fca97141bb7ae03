"""The life of a work at its head.

A work is *admitting* while its input goes into the journal; nobody has been promised anything yet, and a journal
that cannot take it refuses it. From *open* on it must end: with an answer, or with a reason. *ending* is the moment
while that end goes into the journal; it is published only from *ended*, so that a restarted head publishes the same
end again and never another. *ended* waits for the broker's word, *delivered* for its time to be forgotten.

A second answer (a replayed or doubly forwarded work) finds the work ending, ended or delivered, and changes nothing:
that is how duplicates die. Should the journal be full when the end comes, the end is published all the same: the
promise outranks the record.
"""

from pamdi.core.table import Table

WORK = Table(
    name="work",
    initial="admitting",
    states=("admitting", "open", "ending", "ended", "delivered", "refused", "forgotten"),
    events=("journaled", "journal_refused", "answered", "given_up", "delivered", "submitted", "expired"),
    moves={
        "admitting": {"journaled": "open", "journal_refused": "refused", "submitted": "admitting"},
        "open": {"answered": "ending", "given_up": "ending", "submitted": "open"},
        "ending": {
            "journaled": "ended", "journal_refused": "ended",
            "answered": "ending", "given_up": "ending", "submitted": "ending",
        },
        "ended": {
            "delivered": "delivered", "answered": "ended", "given_up": "ended", "submitted": "ended",
            "expired": "forgotten",
        },
        "delivered": {
            "delivered": "delivered", "answered": "delivered", "given_up": "delivered", "submitted": "delivered",
            "expired": "forgotten",
        },
    },
    refused=frozenset(
        {("admitting", event) for event in ("answered", "given_up", "delivered", "expired")}
        | {("open", event) for event in ("journaled", "journal_refused", "delivered", "expired")}
        | {("ending", event) for event in ("delivered", "expired")}
        | {(state, event) for state in ("ended", "delivered") for event in ("journaled", "journal_refused")}
        | {
            (state, event)
            for state in ("refused", "forgotten")
            for event in (
                "journaled", "journal_refused", "answered", "given_up", "delivered", "submitted", "expired",
            )
        }
    ),
)  # fmt: skip
