"""How every command ends: status 0, 1 or 2, one line for what a person must mend, a traceback only with --debug."""

from typing import List

import pytest

from pamdi.cli.main import build_parser, main
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.broker_trouble import understood
from pamdi.core.errors import BadInput
from tests.brokers import free_port


@pytest.mark.parametrize("words", [
    [], ["fly"], ["submit"], ["submit", "gate", "x.npy", "--priority", "0"],
    ["submit", "gate", "x.npy", "--deadline", "soon"],
    ["submit", "gate", "x.npy", "--retry", "-1"], ["cancel", "gate", "w1", "--timeout", "nan"],
    ["drain", "d0", "--wait", "0"], ["daemon"], ["controller", "--confg", "x"],
])  # fmt: skip
def test_wrong_use_is_one_line_and_status_2(words: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    line = capsys.readouterr().err
    assert stopped.value.code == 2 and line.startswith("pamdi") and line.endswith(" --help)\n")
    assert line.count("\n") == 1


WRONG = [
    ["submit", "a/b", "x.npy"], ["submit", "gate", "gone.npy"], ["drain", "a/b"], ["cancel", "a/b", "w1"],
    ["daemon", "--config", "gone.toml"], ["controller", "--config", "gone.toml"],
    ["status", "--broker", "http://x"], ["reallocate", "--ca", "gone.crt", "--broker", "mqtts://127.0.0.1:1"],
    ["status", "--password-file", "gone"], ["status", "--prefix", "a/#"],
]  # fmt: skip


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_what_a_person_must_mend_is_one_line(words: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("pamdi: ") and said.err.count("\n") == 1


@pytest.mark.parametrize("words", [["--debug", "submit", "a/b", "x.npy"], ["submit", "a/b", "x.npy", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(words: List[str]) -> None:
    with pytest.raises(BadInput):
        main(words)


def test_trouble_with_a_file_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = build_parser().parse_args(["status"])

    def full(arguments: object) -> int:
        raise OSError(28, "No space left on device", "/store/model.json")

    parsed.run = full
    monkeypatch.setattr("argparse.ArgumentParser.parse_args", lambda self, words: parsed)
    assert main(["status"]) == 1
    assert capsys.readouterr().err == "pamdi: /store/model.json: No space left on device\n"


@pytest.mark.parametrize(
    "missing, says",
    [("rich", "pamdi: rich is not installed: pip install 'pamdi[demo]'\n"), ("pamdi.core.nothing", "")],
)
def test_what_an_extra_would_bring_is_named_and_a_fault_of_ours_is_not_hidden(
    missing: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = build_parser().parse_args(["status"])

    def plain(arguments: object) -> int:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    parsed.run = plain
    monkeypatch.setattr("argparse.ArgumentParser.parse_args", lambda self, words: parsed)
    if says:
        assert main(["demo"]) == 1
        assert capsys.readouterr().err == says
    else:
        with pytest.raises(ModuleNotFoundError):
            main(["demo"])


def test_who_says_nothing_about_the_broker_is_told_how_to_say_it() -> None:
    refused = "[Errno 111] Connection refused"
    told = str(understood(refused, BrokerConfig()))
    assert told.endswith("say where it is: --broker URL, PAMDI_BROKER_URL, or url under [broker]")
    assert str(understood(refused, BrokerConfig("mqtt://a:1"))).endswith("sudo systemctl status mosquitto")


@pytest.mark.parametrize(
    "said, line",
    [
        ("every device holds its part of epoch 4", "done: every device holds its part of epoch 4\n"),
        ("epoch 4 is held; but d0 is away", "done: epoch 4 is held; but d0 is away\n"),
        ("kept", "done: kept (epoch 4)\n"),
    ],
)
def test_the_epoch_is_said_once(
    said: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def command(*arguments: object, **named: object) -> "dict[str, object]":
        return {"status": "done", "said": said, "epoch": 4}

    monkeypatch.setattr("pamdi.cli.fleet_commands.command", command)
    assert main(["reallocate"]) == 0
    assert capsys.readouterr().out == line


@pytest.mark.parametrize("command", ["status", "drain d0", "reallocate", "cancel gate w1"])
def test_a_broker_that_is_not_there_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    for seconds in (0.5, 5.0, 60.0):  # on a machine that sleeps, the refusal may come too late for the first
        monkeypatch.setattr("pamdi.cli.status.CONNECT_S", seconds)
        monkeypatch.setattr("pamdi.cli.fleet_commands.ANSWER_S", seconds)
        timeout = ["--timeout", str(seconds)] if command.startswith("cancel") else []
        assert main([*command.split(), *timeout, "--broker", url]) == 1
        line = capsys.readouterr().err
        if "no answer within" not in line:
            break
    assert line.startswith(f"pamdi: broker {url}: connection refused, nothing listens") and line.count("\n") == 1
