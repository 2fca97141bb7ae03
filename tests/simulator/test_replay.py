"""A real daemon's record, run again through a new core, gives the same instructions."""

import asyncio
import json
from pathlib import Path
from typing import Any, Callable, List

import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.client import Client
from pamdi.core import events as ev
from pamdi.core.device import Device
from pamdi.core.errors import BadInput, ConfigError
from pamdi.core.limits import Limits
from pamdi.core.work import WorkId
from pamdi.daemon.recorder import Recorder, open_recorder
from pamdi.engines.digits import load
from pamdi.simulator.replay import replay
from tests.brokers import have_mosquitto, running, start_mosquitto
from tests.core.lone import Lone
from tests.daemon.running import Daemon, Ear, config_text, listening


async def ready(ear: Ear, device: str) -> None:
    topic = f"pamdi/v1/device/{device}/allocation/state"
    for _ in range(1200):
        states = [payload for name, payload in ear.heard if name == topic]
        if states and states[-1].count(b'"ready"') == 4:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("never ready")


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")
async def test_a_daemon_that_was_killed_and_started_again_decides_the_same_when_its_records_are_replayed(
    tmp_path: Path,
) -> None:
    images = load("test")[0]

    def text(record: str) -> str:
        return config_text(broker.url, tmp_path, extra=f'record = "{tmp_path / record}"')

    with running(start_mosquitto(tmp_path)) as broker:
        daemon = Daemon(tmp_path, text("first"))
        try:
            async with listening(broker.url) as ear, Client(BrokerConfig(broker.url)) as client:
                await ear.until("pamdi/v1/device/d0/state", b"online")
                ear.allocate("d0")
                await ready(ear, "d0")
                works = [client.submit("gate", {"image": images[i : i + 1]}) for i in range(5)]
                works += [client.submit("yard", {"image": images[i : i + 1]}) for i in range(5)]
                answers = await asyncio.gather(*works)
                assert {answer.status for answer in answers} == {"answered"}
                daemon.kill()
                (tmp_path / "d0.toml").write_text(text("second"))
                daemon.start()
                await client.submit("gate", {"image": images[:1]}, id="after")
            assert daemon.terminate() == 0
        finally:
            daemon.close()
    first, second = replay(tmp_path / "first"), replay(tmp_path / "second")
    assert (first.difference, second.difference) == (None, None)
    assert first.events > 50 and second.events > 10
    lines = [json.loads(line) for line in (tmp_path / "second").read_bytes().splitlines()[1:]]
    assert lines[0]["event"] == "Restored" and len(lines[0]["fields"]["final"]) == 10


def recorder(path: Path, log: Callable[[str], None] = lambda line: None, bytes_max: int = 10**6) -> Recorder:
    return Recorder(path, "d0", Limits(), log, bytes_max)


def test_a_record_that_differs_says_where(tmp_path: Path) -> None:
    from pamdi.core.device import Device

    path, device = tmp_path / "r", Device("d0")
    written = recorder(path)
    for i in range(3):
        event = ev.CancelAsked(WorkId("gate", str(i)))
        said = device.handle(event, float(i))
        written.happened(float(i), event, said[:-1] if i == 2 else said)
    written.close()
    outcome = replay(path)
    assert outcome.events == 2 and outcome.difference is not None and "line 4, CancelAsked" in outcome.difference


def test_the_record_is_bounded_and_says_when_it_is_full(tmp_path: Path) -> None:
    said: List[str] = []
    written = recorder(tmp_path / "r", said.append, bytes_max=5000)
    for i in range(200):
        written.happened(float(i), ev.Woken(), [])
    assert (tmp_path / "r").stat().st_size <= 5000
    assert said == [f"{tmp_path / 'r'}: 5000 bytes are full: nothing more is recorded"]


def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("something else\n")
    with pytest.raises(BadInput, match="not a record of a daemon"):
        replay(tmp_path / "r")


def test_a_record_in_a_folder_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name a file in a folder that exists"):
        open_recorder(str(tmp_path / "no" / "r"), "d0", Limits(), lambda line: None)


def test_a_batch_is_recorded_without_its_tensors_and_replayed(tmp_path: Path) -> None:
    stage, limits = Lone(units=[], batch_seconds=((4, 0.03),)), Limits(works_ahead_max=8)
    recorder, stage.device = Recorder(tmp_path / "record", "d0", limits, print), Device("d0", limits)

    def feed(event: Any) -> List[Any]:
        said = stage.device.handle(event, stage.now)
        recorder.happened(stage.now, event, said)
        return said

    stage.feed = feed  # type: ignore[method-assign]
    stage.allocate([0, 1, 2, 3])
    for id in "abcd":
        stage.submit(id)
    sizes = []
    while stage.device.placing.compute.batch:
        batch = stage.device.placing.compute.batch
        sizes.append(len(batch))
        stage.now += 0.03
        if len(batch) == 1:
            feed(ev.Inferred(batch[0].key, "tensor", 1000, 0.03))
        else:
            failed = ev.Outcome(batch[0].key, detail="bad")
            feed(ev.InferredTogether((failed, *(ev.Outcome(held.key, "tensor", 1000) for held in batch[1:])), 0.03))
    recorder.close()
    assert max(sizes) == 3 and b'"tensor"' not in (tmp_path / "record").read_bytes()
    outcome = replay(tmp_path / "record")
    assert outcome.difference is None and outcome.events > 10
