"""`pamdi doctor`: every complaint names a cure, what is unavailable is said so, and the exit status tells."""

import json
import os
from pathlib import Path
from typing import Any, Dict, List

import pytest

from pamdi.cli.doctor import about_configuration, lines_of
from pamdi.cli.doctor_findings import (
    ODD,
    OK,
    WRONG,
    Finding,
    about_clock,
    about_host,
    about_memory,
    about_power_mode,
    about_store,
    about_temperature,
)
from pamdi.cli.main import main
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.broker_trouble import understood
from pamdi.daemon.host import describe_host
from tests.brokers import free_port, have_mosquitto, running, start_mosquitto

needs_mosquitto = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed here")


def _config(tmp_path: Path, broker: str, *lines: str) -> Path:
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    path = tmp_path / "daemon.toml"
    head = [
        f'id = "d0"\ntype = "orin-nano"\nstore = "{store}"',
        f'runtime_dir = "{tmp_path}"\nstate_dir = "{tmp_path}"',
    ]
    path.write_text("\n".join([*head, "[backend]", 'name = "stub"', "[broker]", f'url = "{broker}"', *lines, ""]))
    return path


def _doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> "tuple[int, Dict[str, Any]]":
    status = main(["doctor", "--json", *arguments])
    return status, json.loads(capsys.readouterr().out)


def _named(document: Dict[str, Any], name: str) -> List[Dict[str, str]]:
    return [finding for finding in document["findings"] if finding["name"] == name]


def test_a_board_in_another_power_mode_than_its_table_was_measured_in_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "calibration" / "tables"
    folder.mkdir(parents=True)
    (folder / "orin-nano.toml").write_text('device_type = "orin-nano"\npower_mode = "2 MODE_15W"\n')
    config = tmp_path / "daemon.toml"
    (found,) = about_power_mode("d0", "orin-nano", "0 MAXN", config)
    assert (found.state, found.value) == (
        ODD, "d0 is in power mode '0 MAXN', the table of orin-nano was measured in '2 MODE_15W'",
    )  # fmt: skip
    assert found.cure.startswith("`nvpmodel -m` on d0, or `pamdi calibrate latency`")
    same = about_power_mode("d0", "orin-nano", "2 MODE_15W", config)
    unknown = about_power_mode("d0", "orin-nano", None, config)
    no_table = about_power_mode("d0", "thor", "0 MAXN", config)
    not_stated = about_power_mode("d0", "x86-cpu", "0 MAXN", config)
    assert [same, unknown, no_table, not_stated] == [[], [], [], []]
    (folder / "orin-nano.toml").write_text("nonsense")
    assert about_power_mode("d0", "orin-nano", "0 MAXN", config)[0].state == ODD


@needs_mosquitto
@pytest.mark.usefixtures("round_trips_may_take_long")
def test_a_device_that_can_work_says_so_and_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(start_mosquitto(tmp_path)) as broker:
        status, document = _doctor(capsys, "--config", str(_config(tmp_path, broker.url)))
    assert (status, document["ok"]) == (0, True)
    (found,) = _named(document, "broker")
    assert found["value"].startswith(f"127.0.0.1:{broker.port} answers in ")
    assert _named(document, "daemon") == [{"name": "daemon", "value": "d0 is not running"}]


@needs_mosquitto
def test_a_round_trip_on_this_machine_is_not_slow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without TCP_NODELAY at both ends none of ten would be quick."""
    with running(start_mosquitto(tmp_path)) as broker:
        for _ in range(10):
            _, document = _doctor(capsys, "--broker", broker.url)
            if "state" not in _named(document, "broker")[0]:
                break
    assert "state" not in _named(document, "broker")[0]


@needs_mosquitto
@pytest.mark.parametrize("lines", [(), ('user = "d0"', 'password_file = "{}/password"')], ids=["anonymous", "password"])
def test_a_broker_that_does_not_let_us_in_is_wrong_with_its_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: "tuple[str, ...]"
) -> None:
    (tmp_path / "password").write_text("guess\n")
    with running(start_mosquitto(tmp_path, users={"d0": "secret"})) as broker:
        config = _config(tmp_path, broker.url, *(line.format(tmp_path) for line in lines))
        status, document = _doctor(capsys, "--config", str(config))
    (found,) = _named(document, "broker")
    assert (status, found["state"]) == (1, WRONG)
    assert found["cure"].startswith("user and password: " + ("set both" if lines else "give --user NAME"))


@needs_mosquitto
def test_an_access_list_that_shuts_us_out_is_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "acl").write_text("topic read elsewhere/#\n")
    with running(start_mosquitto(tmp_path, config=f"acl_file {tmp_path}/acl")) as broker:
        status, document = _doctor(capsys, "--config", str(_config(tmp_path, broker.url)))
    (found,) = _named(document, "broker")
    assert (status, found["state"]) == (0, ODD)
    assert "did not come back" in found["value"]


def test_a_broker_that_is_down_is_wrong_where_it_was_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    status, document = _doctor(capsys, "--config", str(_config(tmp_path, url)))
    (found,) = _named(document, "broker")
    assert (status, found["state"]) == (1, WRONG)
    assert found["cure"].startswith("start the broker")


def test_a_mistyped_key_is_told_with_what_was_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _config(tmp_path, "mqtt://127.0.0.1:1", 'usr = "d0"')
    status, document = _doctor(capsys, "--config", str(config), "--broker", f"mqtt://127.0.0.1:{free_port()}")
    (found,) = _named(document, "configuration")
    assert (status, found["state"], found["cure"]) == (1, WRONG, "did you mean `user`?")
    assert "unknown key `usr`" in found["value"]


def test_a_configuration_that_is_named_must_be_there_and_the_usual_one_need_not(tmp_path: Path) -> None:
    absent = tmp_path / "daemon.toml"
    assert about_configuration(absent)[0].state == WRONG
    found, config = about_configuration(None, absent)
    assert (found.state, config) == (OK, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_an_ordinary_user_is_told_to_use_sudo(tmp_path: Path) -> None:
    for folder in ("etc", "store"):
        (tmp_path / folder).mkdir(mode=0o750)
    (tmp_path / "etc" / "daemon.toml").touch()
    os.chmod(tmp_path, 0o755)
    os.seteuid(65534)
    try:
        found, config = about_configuration(None, tmp_path / "etc" / "daemon.toml")
        (store,) = about_store(tmp_path / "store" / "deeper", False)
    finally:
        os.seteuid(0)
    assert (found.state, found.cure, config) == (
        ODD,
        "run this as root or as the service's user: sudo pamdi doctor",
        None,
    )
    assert (store.state, store.cure) == (ODD, "run this as root or as the service's user")


def test_a_password_file_that_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _config(tmp_path, f"mqtt://127.0.0.1:{free_port()}", 'user = "d0"', 'password_file = "/nowhere/password"')
    status, document = _doctor(capsys, "--config", str(config))
    (found,) = _named(document, "broker")
    assert (status, found["state"]) == (1, WRONG)
    assert "/nowhere/password" in found["value"]


def test_a_store_is_judged_by_what_is_in_it(tmp_path: Path) -> None:
    assert [finding.state for finding in about_store(tmp_path / "absent", False)] == [WRONG]
    (empty,) = about_store(tmp_path, False)
    assert (empty.state, "pamdi engines export" in empty.cure) == (ODD, True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{")
    (damaged,) = about_store(tmp_path, False)
    assert (damaged.state, damaged.cure) == (WRONG, "export the model again")


def test_every_fact_of_an_unknown_machine_is_unavailable(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in about_host(describe_host(tmp_path))}
    names = ("board", "L4T", "JetPack", "CUDA", "TensorRT", "power mode", "power", "temperature", "memory")
    assert {findings[name].value for name in names} == {"unavailable"}
    assert {finding.state for finding in findings.values()} == {OK}


def test_a_hot_or_full_board_is_odd_and_names_its_cure(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("gpu-thermal\n")
    (zone / "temp").write_text("95500\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4000000 kB\nMemAvailable: 200000 kB\n")
    for finding in (about_temperature(describe_host(tmp_path)), about_memory(describe_host(tmp_path))):
        assert finding.state == ODD
        assert finding.cure


def test_a_clock_that_somebody_keeps_is_said_to_be_kept(tmp_path: Path) -> None:
    assert "synchronised" not in about_clock(tmp_path / "synchronized").value
    (tmp_path / "synchronized").touch()
    assert about_clock(tmp_path / "synchronized").value.endswith("UTC, synchronised")


@pytest.mark.parametrize(
    ("problem", "word"),
    [
        ("[Errno 111] Connection refused", "start the broker"),
        ("[code:135] Not authorized", "password"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "ca_file"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "mqtt:// for a plain"),
        ("[Errno -2] Name or service not known", "unknown here"),
        ("[Errno 113] No route to host", "no network"),
        ("timed out", "firewall"),
    ],
)
def test_what_the_network_says_is_turned_into_what_to_do(problem: str, word: str) -> None:
    assert word in str(understood(problem, BrokerConfig("mqtts://broker")))


def test_the_report_marks_what_is_odd_and_wrong_and_ends_with_a_verdict() -> None:
    findings = [
        Finding("board", "Orin"),
        Finding("disk", "full", ODD, "remove"),
        Finding("broker", "away", WRONG, "start"),
    ]
    assert lines_of(findings) == [
        "  board   Orin",
        "? disk    full",
        "          -> remove",
        "! broker  away",
        "          -> start",
        "",
        "1 must be mended before this device can work, 1 to look at",
    ]
