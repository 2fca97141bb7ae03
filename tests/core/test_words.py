"""Topics, messages, segments: what is written can be read, and nothing else is."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pamdi.core import messages as ms
from pamdi.core.segment import Segment
from pamdi.core.tensors import TensorSpec
from pamdi.core.topics import LEAVES, Topics, valid_id
from pamdi.core.work import Key, Visit, Work, WorkId

IDS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
KEY = Key("gate", "w1", 0, 0, 3)
WORK = Work(KEY, "net", "d0", 10.0, 0.5, None, None, (Visit(0, 3, "d0", 0.0, 0.1, 0.0),))


@given(
    kind=st.sampled_from(["device", "source"]), id=IDS, data=st.data(), prefix=st.sampled_from(["pamdi/v1", "a/b/c"])
)
def test_topics_build_and_parse_are_inverse(kind: str, id: str, data: st.DataObject, prefix: str) -> None:
    leaf = data.draw(st.sampled_from(LEAVES[kind]))
    topics = Topics(prefix)
    built = topics.device(id, leaf) if kind == "device" else topics.source(id, leaf)
    assert topics.parse(built) == (kind, id, leaf)


@given(st.text())
def test_any_other_topic_is_nobodys(text: str) -> None:
    parsed = Topics().parse(text)
    assert parsed is None or Topics()._build(*parsed) == text


@pytest.mark.parametrize("id", ["", "a/b", "+", "#", "-x", "x" * 65, "a b"])
def test_an_id_that_cannot_be_part_of_a_topic_is_refused(id: str) -> None:
    assert not valid_id(id)
    if id != "+":
        with pytest.raises(ValueError, match="topic"):
            Topics().device(id, "state")


MESSAGES = [
    ms.Beacon("d1", (ms.ReadySegment("net", 0, 1, 0.025),), ms.Backlog(0.01, (ms.ClassBacklog(10.0, 0.2),))),
    ms.Rtc(KEY, "net", 10.0, 65536, 0.025), ms.Ctc(KEY, 1.0), ms.Refusal(KEY, "busy"), ms.Revoked(KEY),
    ms.Withdrawn(KEY), ms.Tensor(WORK, (TensorSpec("x", "float32", (1, 16)),)), ms.Taken(KEY), ms.PassedOn(KEY),
    ms.Answer(WORK, error="no_route"), ms.Finished((WorkId("gate", "w1"),)), ms.Where(WorkId("gate", "w1"), 2),
    ms.Here(WorkId("gate", "w1"), 2, True), ms.Holding((KEY,)),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back_as_they_were_sent(message: ms.AnyMessage) -> None:
    assert ms.decode(ms.encode(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_unknown_fields_are_tolerated(message: ms.AnyMessage) -> None:
    fields = msgspec.msgpack.decode(ms.encode(message))
    fields["from_the_future"] = 1
    assert ms.decode(msgspec.msgpack.encode(fields)) == message


def test_the_bytes_of_a_message_are_pinned() -> None:
    golden = bytes.fromhex("82a474797065a554616b656ea36b657995a467617465a2773100" + "0003")
    assert ms.encode(ms.Taken(KEY)) == golden


def test_an_unknown_message_is_an_error_with_a_name() -> None:
    with pytest.raises(msgspec.ValidationError, match="Gossip"):
        ms.decode(msgspec.msgpack.encode({"type": "Gossip"}))


@pytest.mark.parametrize("pair", [(0, 0), (2, 1), (-1, 2)])
def test_a_segment_refuses_nonsense(pair: "tuple[int, int]") -> None:
    with pytest.raises(ValueError, match="not a segment"):
        Segment("net", *pair)


def test_backlog_ahead_counts_what_has_started_and_every_class_at_or_above() -> None:
    backlog = ms.Backlog(0.01, (ms.ClassBacklog(10.0, 0.2), ms.ClassBacklog(1.0, 0.5)))
    assert backlog.ahead_of(10.0) == pytest.approx(0.21)
    assert backlog.ahead_of(1.0) == pytest.approx(0.71)
    assert backlog.above(1.0) == pytest.approx(0.2)
