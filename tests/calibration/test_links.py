"""From what the daemons publish to [[link]] rows; at last with two real daemons on an emulated link."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import List, Type

import pytest

from pamdi.calibration.links import Heard, LinkRow, collect, enough, heard_stats, rows, to_text
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.device_stats import Probed
from pamdi.client.toml_file import read_toml
from pamdi.controller.config import ControllerConfig
from pamdi.controller.fleet import Fleet, LinkEntry, check_links
from pamdi.core.allocation import Neighbour
from tests.brokers import free_port, have_mosquitto, running, start_mosquitto
from tests.daemon.running import ROOT, Daemon, config_text, listening

FAST = {"delay_s": 0.002, "rate_bytes_per_s": 2.5e6, "rounds": 4, "idle_rounds": 4, "probe_bytes": 65536}
BUSY = {"delay_s": 0.003, "rate_bytes_per_s": None, "beside_works_bytes_per_s": 1e6, "rounds": 3}


def test_rows_are_one_way_and_what_is_only_known_beside_works_says_so() -> None:
    heard: Heard = {}
    heard_stats(heard, "b", json.dumps({"counters": {}, "probes": {"a": BUSY, "c": {"rounds": 0}}}).encode())
    heard_stats(heard, "a", json.dumps({"probes": {"b": FAST}}).encode())
    for junk in (b"", b"\xff", b"[]", b'{"probes": 3}', b"[" * 10_000):
        heard_stats(heard, "b", junk)
    assert rows(heard) == [
        LinkRow("a", "b", 2.5e6, 0.002, True, None, 4), LinkRow("b", "a", 1e6, 0.003, False, 1e6, 3),
    ]  # fmt: skip
    assert "only beside works, a lower bound" in to_text(rows(heard), "2026-11-25")


def test_it_waits_until_every_online_device_has_told_of_all_its_links() -> None:
    heard: Heard = {"a": {"b": Probed(rounds=3), "c": Probed(rounds=2)}, "b": {"a": Probed(rounds=9)}}
    cases = {("a", "b"): [True, False], ("a", "x"): [False, False], (): [False, False]}
    assert {on: [enough(heard, list(on), 2), enough(heard, list(on), 3)] for on in cases} == cases


@pytest.mark.parametrize("kind", [Fleet, ControllerConfig])
def test_the_file_is_understood_where_links_are_declared(
    kind: "Type[Fleet | ControllerConfig]", tmp_path: Path
) -> None:
    path = tmp_path / "links.toml"
    found = [LinkRow("a", "b", 2.5e6, 0.002, True, 1e6, 4), LinkRow("b", "a", 1e6, 0.003, True, None, 3)]
    path.write_text(to_text(found, "2026-11-25"))
    links = read_toml(path, kind, {}).link
    check_links(links, [], "links.toml")
    assert links == [
        LinkEntry("a", "b", 2_500_000, 0.002, one_way=True), LinkEntry("b", "a", 1_000_000, 0.003, one_way=True),
    ]  # fmt: skip


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")
async def test_what_a_device_said_before_somebody_asked_does_not_count(tmp_path: Path) -> None:
    said: List[str] = []
    with running(start_mosquitto(tmp_path)) as broker:
        async with listening(broker.url) as ear:
            ear.mqtt.publish(ear.topics.device("a", "state"), b"online", 1, True)
            ear.mqtt.publish(ear.topics.device("a", "stats"), json.dumps({"probes": {"b": FAST}}).encode(), 1, True)
            await ear.until(ear.topics.device("a", "stats"), b"probes")
            assert await collect(BrokerConfig(broker.url), 1, 1.0, said.append) == {}
    assert said == []


RATE, DELAY_S = 2_000_000, 0.03
EMULATED = f"""stats_every_s = 0.5
[emulation]
link_rate_bytes_per_s = {RATE}
link_delay_s = {DELAY_S}
[probe]
every_s = 0.2
share_max = 0.2
"""


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")
async def test_two_daemons_find_out_what_their_link_can_do(tmp_path: Path) -> None:
    ports = {"d0": free_port(), "d1": free_port()}
    with running(start_mosquitto(tmp_path)) as broker:
        daemons = [
            Daemon(tmp_path, config_text(broker.url, tmp_path, id, EMULATED, port), id) for id, port in ports.items()
        ]
        try:
            async with listening(broker.url) as ear:
                for me, peer in (("d0", "d1"), ("d1", "d0")):
                    await ear.until(f"pamdi/v1/device/{me}/state", b"online", 60.0)
                    ear.allocate(me, neighbours=(Neighbour(peer, "127.0.0.1", ports[peer]),))
                out = tmp_path / "links.toml"
                command = [sys.executable, "-m", "pamdi", "calibrate", "links", "--broker", broker.url, "--json"]
                command += ["--out", str(out), "--samples", "4", "--seconds-max", "120"]
                for _ in range(
                    5
                ):  # it asks whom it hears within a second and a half: too short for a machine that sleeps
                    said = await asyncio.get_running_loop().run_in_executor(None, lambda: run(command))
                    if len(json.loads(said)["links"]) == 2:
                        break
        finally:
            for daemon in daemons:
                daemon.close()
    links = json.loads(said)["links"]
    assert [(link["from_"], link["to"]) for link in links] == [("d0", "d1"), ("d1", "d0")]
    for link in links:
        assert RATE / 5 < link["rate_bytes_per_s"] < RATE * 3, link
        assert DELAY_S * 0.95 < link["delay_s"] < DELAY_S * 10, link
    assert len(read_toml(out, Fleet, {}).link) == 2


def run(command: "list[str]") -> str:
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"))
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
