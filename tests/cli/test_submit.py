"""``pamdi submit`` and ``pamdi cancel`` as a person uses them, against a real broker and a head that is played."""

import argparse
import asyncio
import contextlib
import json
import re
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import msgspec
import numpy as np
import pytest

from pamdi.cli import cancel, submit
from pamdi.cli.broker_options import add_broker_options, broker_from
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.mqtt import Connection
from pamdi.client.payloads import read_command, read_submission, tensors_json
from pamdi.core.errors import BadInput, ConfigError, Unreachable
from tests.brokers import RunningBroker, free_port, have_mosquitto, running, start_mosquitto

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed here")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with running(start_mosquitto(tmp_path)) as started:
        yield started


@contextlib.contextmanager
def head(broker: RunningBroker, answer: Callable[[str, bytes], Dict[str, Any]]) -> Iterator[None]:
    """Source ``gate``'s head in a thread: what it hears on submit and cancel it answers with ``answer``'s document."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()

    async def play() -> None:
        def heard(topic: str, payload: bytes, retained: bool) -> None:
            document = answer(topic.rpartition("/")[2], payload)
            if document:
                connection.publish("pamdi/v1/source/gate/result", msgspec.json.encode(document))

        connection = Connection(BrokerConfig(broker.url), "head", heard, lambda: ready.set())
        for leaf in ("submit", "cancel"):
            connection.subscribe(f"pamdi/v1/source/gate/{leaf}")
        await connection.run()

    def live() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    task = loop.create_task(play())
    thread = threading.Thread(target=live)
    thread.start()
    assert ready.wait(60.0)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def doubled(leaf: str, payload: bytes) -> Dict[str, Any]:
    work = read_submission(payload)
    outputs = {name: array * 2 for name, array in work.inputs.items()}
    return {"id": work.id, "status": "answered", "latency_s": 0.1, "outputs": tensors_json(outputs)}


def run(command: Any, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    parsed = parser.parse_args([command.__name__.rpartition(".")[2], *arguments])
    return int(parsed.run(parsed))


def saved(folder: Path, count: int = 2) -> List[str]:
    for number in range(count):
        np.save(folder / f"{number}.npy", np.full((1, 2), number, "float32"))
    return [str(folder / f"{number}.npy") for number in range(count)]


def test_files_are_answered_in_one_json_document(broker: RunningBroker, tmp_path: Path, capsys: Any) -> None:
    np.savez(tmp_path / "two.npz", a=np.ones(2, "int32"), b=np.array([np.nan, 1.0]))
    files = [*saved(tmp_path), str(tmp_path / "two.npz")]
    with head(broker, doubled):
        assert run(submit, "gate", *files, "--broker", broker.url, "--input", "x", "--json") == 0
    printed = capsys.readouterr()
    answers = json.loads(printed.out)["answers"]
    assert [answer["file"] for answer in answers] == files
    assert answers[1]["outputs"]["x"] == {"dtype": "float32", "shape": [1, 2], "values": [[2.0, 2.0]]}
    assert answers[2]["outputs"]["b"]["values"] == [None, 2.0]
    assert len(printed.err.splitlines()) == 3


def test_an_answer_is_one_line(broker: RunningBroker, tmp_path: Path, capsys: Any) -> None:
    with head(broker, doubled):
        assert run(submit, "gate", saved(tmp_path)[1], "--broker", broker.url) == 0
    assert capsys.readouterr().out.endswith(
        "1.npy: answered in 0.1000 s by its head: image float32 [1, 2], largest at 0\n"
    )


def test_a_refusal_is_told_and_fails_the_command(broker: RunningBroker, tmp_path: Path, capsys: Any) -> None:
    def refuse(leaf: str, payload: bytes) -> Dict[str, Any]:
        return {
            "id": read_submission(payload).id,
            "status": "refused",
            "reason": "bad_input",
            "detail": "no such input",
        }

    with head(broker, refuse):
        assert run(submit, "gate", saved(tmp_path)[0], "--broker", broker.url) == 1
    assert "refused (bad_input): no such input" in capsys.readouterr().out


def test_priority_deadline_and_id_reach_the_head(broker: RunningBroker, tmp_path: Path) -> None:
    heard: List[Any] = []

    def listen(leaf: str, payload: bytes) -> Dict[str, Any]:
        heard.append(read_submission(payload))
        return doubled(leaf, payload)

    options = ["--priority", "7", "--deadline", "2.5", "--id", "w1", "--broker", broker.url]
    with head(broker, listen):
        assert run(submit, "gate", saved(tmp_path)[0], *options) == 0
    assert (heard[0].id, heard[0].gamma, heard[0].deadline_s) == ("w1", 7.0, 2.5)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file"), (b"not numpy", "numpy.save"), (b"", "numpy.save")]
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: Any, says: str) -> None:
    path = tmp_path / "x.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=says):
        submit.read_inputs(path, "x")


def test_a_pickled_object_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="plain numbers"):
        submit.read_inputs(tmp_path / "x.npy", "x")


def test_a_broker_that_is_away_is_one_line(tmp_path: Path) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable, match=url):
        run(submit, "gate", saved(tmp_path)[0], "--broker", url, "--timeout", "0.5")
    with pytest.raises(Unreachable, match=url):
        run(cancel, "gate", "w1", "--broker", url, "--timeout", "0.5")


def test_who_waits_is_told_for_what_and_what_to_look_at(
    broker: RunningBroker, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither head nor controller is there."""
    monkeypatch.setattr(submit, "SILENT_S", 0.2)
    assert run(submit, "gate", saved(tmp_path)[0], "--broker", broker.url, "--timeout", "3", "--json") == 1
    said = capsys.readouterr()
    assert said.err.startswith("no answer after 0.2 s: waiting for 3 s in all (--timeout); `pamdi status` shows")
    assert json.loads(said.out)["answers"][0]["status"] == "lost"


def test_a_cancelled_work_is_reported_as_such(broker: RunningBroker, capsys: Any) -> None:
    def end(leaf: str, payload: bytes) -> Dict[str, Any]:
        assert leaf == "cancel"
        return {"id": read_command(payload).id, "status": "failed", "reason": "cancelled"}

    with head(broker, end):
        assert run(cancel, "gate", "w1", "--broker", broker.url, "--timeout", "60") == 0
    assert capsys.readouterr().out == "gate/w1: failed cancelled\n"


def test_cancelling_what_nobody_knows_says_so(broker: RunningBroker) -> None:
    with pytest.raises(Unreachable, match="gate/w1: no word"):
        run(cancel, "gate", "w1", "--broker", broker.url, "--timeout", "3")


def test_an_option_outranks_the_environment_which_outranks_the_default() -> None:
    parser = argparse.ArgumentParser()
    add_broker_options(parser)
    environment = {"PAMDI_BROKER_URL": "mqtt://env:1", "PAMDI_BROKER_USER": "ann"}
    chosen = broker_from(parser.parse_args(["--broker", "mqtt://option:2"]), environment)
    assert (chosen.url, chosen.user, chosen.prefix) == ("mqtt://option:2", "ann", "pamdi/v1")
    assert broker_from(parser.parse_args([]), environment).url == "mqtt://env:1"
    with pytest.raises(ConfigError, match="mqtt://"):
        broker_from(parser.parse_args(["--broker", "nonsense"]), {})


def test_the_program_in_the_readme_runs_as_it_stands(broker: RunningBroker, capsys: pytest.CaptureFixture[str]) -> None:
    """But for where the broker is."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    here, count = re.subn(r'BrokerConfig\("mqtts://BROKER".*?\)', f'BrokerConfig("{broker.url}")', program)
    assert count == 1

    def answer(leaf: str, payload: bytes) -> Dict[str, Any]:
        array = read_submission(payload).inputs["image"]
        outputs = tensors_json({"logits": np.asarray(array.shape, "float32")})
        return {"id": read_submission(payload).id, "status": "answered", "outputs": outputs}

    with head(broker, answer):
        exec(compile(here, "README.md", "exec"), {})  # ours
    assert capsys.readouterr().out == "answered  {'logits': array([ 1.,  3., 32., 32.], dtype=float32)}\n"
