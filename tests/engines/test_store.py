"""The store: whole at every moment, whoever writes, however little room there is, and no altered byte gets by."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from pamdi.cli.main import main
from pamdi.core.errors import EngineError
from pamdi.engines.export import OURS, export
from pamdi.engines.manifest import EngineInfo, checked_file, checked_segment, manifest_of, read_manifest, sha256_of
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.store import Store
from pamdi.engines.verify import compare, covering_chain, random_inputs, run_chain, run_uncut
from tests.engines.test_graphs import saved, value

WIDE = np.arange(32 * 32, dtype=np.float32).reshape(32, 32) / 1000  # 4 KiB: large enough to be an object of its own
node = helper.make_node


def twice(folder: Path) -> Path:
    """One weight, used at both ends, as GPT-2 uses its embedding."""
    folder.mkdir(parents=True, exist_ok=True)
    body = [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "w"], ["y"])]
    wide = {"inputs": [value("x", ["batch", 32])], "outputs": [value("y", ["batch", 32])]}
    return saved(folder, body, {"w": WIDE}, **wide)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three segments, a weight that two of them read, and an engine."""
    folder = tmp_path / "store" / "m"
    export(twice(tmp_path / "model"), folder, "m")
    kept = Store(folder)
    with kept.adding():
        sha256, _ = kept.add([b"a plan"])

        def with_engine(before: Any) -> Tuple[Any, "dict[str, str]"]:
            engine = EngineInfo(0, 1, "orin-nano", "tensorrt", "fp16", "0000-0001.plan", sha256, max_abs_error=0.001)
            return msgspec.structs.replace(before, engines=(engine,)), {"0000-0001.plan": sha256}

        kept.publish(with_engine)
    return folder


def chained_is_uncut(path: Path, folder: Path) -> bool:
    manifest, backend = read_manifest(folder), OnnxRuntimeBackend(1, "off")
    inputs = random_inputs(manifest)
    chained = run_chain(backend, folder, covering_chain(manifest), inputs)
    return compare(chained, run_uncut(backend, path, inputs)).identical


def state(folder: Path) -> "dict[str, bytes]":
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_weight_that_two_segments_read_is_kept_once(tmp_path: Path, store: Path) -> None:
    manifest = read_manifest(store)
    assert [(info.weights, info.bytes < WIDE.nbytes) for info in manifest.segments] == [
        ((0,), True), ((), True), ((0,), True),
    ]  # fmt: skip
    assert [(weight.bytes, sha256_of(store / "objects" / weight.sha256)) for weight in manifest.weights] == [
        (WIDE.nbytes, manifest.weights[0].sha256)
    ]
    assert chained_is_uncut(tmp_path / "model" / "m.onnx", store)


def test_all_runs_of_a_model_take_little_more_than_the_model_and_the_estimate_says_so(tmp_path: Path) -> None:
    said: List[str] = []
    runs = [(first, stop) for first in range(8) for stop in range(first + 1, 9)]
    export(OURS["resnet56"], tmp_path, "m", 8, runs, said.append)
    assert Store(tmp_path).used_bytes() < 1.2 * OURS["resnet56"].stat().st_size
    told = int(said[0].split("about ")[1].split(" bytes")[0])
    assert said[0].startswith("36 segments, about ") and 0.9 < told / Store(tmp_path).used_bytes() < 1.3
    assert chained_is_uncut(OURS["resnet56"], tmp_path)


@pytest.mark.parametrize("inline_bytes_max", [0, 4096])
def test_a_model_above_the_limit_of_one_file_is_read_and_written_as_several(
    tmp_path: Path, inline_bytes_max: int
) -> None:
    model = onnx.load(OURS["resnet56"])
    path = tmp_path / "large" / "m.onnx"
    path.parent.mkdir()
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=1024)
    export(path, tmp_path / "out", "m", 4, inline_bytes_max=inline_bytes_max)
    assert chained_is_uncut(OURS["resnet56"], tmp_path / "out")
    assert max(file.stat().st_size for file in (tmp_path / "out").glob("*.onnx")) < 40_000 + inline_bytes_max
    assert read_manifest(tmp_path / "out").source_sha256 not in ("", sha256_of(path))
    assert main(["engines", "verify", str(tmp_path / "out"), "--model", str(path)]) == 0
    os.truncate(path.parent / "m.data", 1000)
    with pytest.raises(EngineError, match=r"m.data: .* bytes of weight .* are not there"):
        export(path, tmp_path / "again", "m")


def leaves(document: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    yield path
    for key in document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ():
        yield from leaves(document[key], (*path, key))


def altered(document: Any, path: Tuple[Any, ...]) -> Any:
    """The document with the value at ``path`` changed a little."""
    if path:
        copy = dict(document) if isinstance(document, dict) else list(document)
        copy[path[0]] = altered(document[path[0]], path[1:])
        return copy
    if isinstance(document, str):
        return document + "x" if not document else document[:-1] + chr(ord(document[-1]) ^ 1)
    if isinstance(document, dict):
        return {**document, "more": 1}
    return [*document, 1] if isinstance(document, list) else 1 if document is None else document + 1


def test_a_manifest_with_any_one_field_altered_is_refused(store: Path) -> None:
    assert main(["engines", "sign", str(store), "--key", str(store.parent / "key.pem")]) == 0
    document = json.loads((store / "model.json").read_text())
    paths = list(leaves(document))
    assert ("engines", 0, "max_abs_error") in paths and ("signatures", 0, "signature") in paths and len(paths) > 80
    for path in paths:
        with pytest.raises(EngineError, match=r"^m: (altered|not a manifest)") as error:
            manifest_of(json.dumps(altered(document, path)).encode(), "m")
        assert "\n" not in str(error.value)
    for key in document:
        with pytest.raises(EngineError, match=r"^m: (altered|not a manifest|it carries no digest)"):
            manifest_of(json.dumps({k: v for k, v in document.items() if k != key}).encode(), "m")
    manifest_of(json.dumps(document, indent=7, sort_keys=True).encode(), "m")  # spaces and order are no alteration


def test_any_file_with_head_tail_or_one_random_byte_changed_is_refused(store: Path) -> None:
    manifest, drawn = read_manifest(store), random.Random(4)
    whole = state(store)
    names = [name for name in whole if not Path(name).name.startswith(".") and name != "model.json"]
    assert len([name for name in names if not name.startswith("objects/")]) == 4

    def check_all() -> None:
        for info in manifest.segments:
            checked_segment(store, manifest, info)
        for engine in manifest.engines:
            checked_file(store, engine.file, engine.sha256)

    check_all()
    for name in names:
        if name.startswith("objects/") and name[8:] not in {weight.sha256 for weight in manifest.weights}:
            continue  # the same file as one of the names
        size = len(whole[name])
        for place in [0, size - 1, *(drawn.randrange(size) for _ in range(100))]:
            with open(store / name, "r+b") as file:
                file.seek(place)
                file.write(bytes([whole[name][place] ^ (1 + drawn.randrange(255))]))
            with pytest.raises(EngineError, match=r"altered or cut short: sha256 is \w{12}, .* again") as error:
                check_all()
            assert name in str(error.value) and "\n" not in str(error.value)
            (store / name).write_bytes(whole[name])
        os.truncate(store / name, size - 1)
        with pytest.raises(EngineError, match="altered or cut short"):
            check_all()
        (store / name).write_bytes(whole[name])
    check_all()


def test_exporting_again_mends_what_was_damaged_and_keeps_engines_of_the_same_segments(
    tmp_path: Path, store: Path
) -> None:
    (store / "0001-0002.onnx").write_bytes(b"damaged")
    (store / "objects" / read_manifest(store).weights[0].sha256).write_bytes(b"damaged")
    assert main(["engines", "list", str(store)]) == 1
    export(tmp_path / "model" / "m.onnx", store, "m")
    assert main(["engines", "list", str(store)]) == 0
    assert [engine.file for engine in read_manifest(store).engines] == ["0000-0001.plan"]


def test_a_signature_counts_only_from_a_trusted_key_and_for_what_was_signed(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = store.parent / "key.pem"
    assert main(["engines", "sign", str(store), "--key", str(key), "--json"]) == 0
    public = json.loads(capsys.readouterr().out)["key"]
    assert key.stat().st_mode & 0o777 == 0o600
    read_manifest(store, [public])
    with pytest.raises(EngineError, match="signed by none of trusted_keys: sign it with `pamdi engines sign`"):
        read_manifest(store, ["A" * 43 + "="])
    document = json.loads((store / "model.json").read_text())
    from pamdi.engines.seal import sealed

    forged = json.dumps(sealed({**document, "source_sha256": "0" * 64})).encode()
    manifest_of(forged, "m")  # whoever edits on purpose can compute the digest anew
    with pytest.raises(EngineError, match="signed by none"):
        manifest_of(forged, "m", [public])


def test_a_store_that_would_grow_over_its_bound_is_left_as_it_was(store: Path) -> None:
    before = state(store)
    with pytest.raises(EngineError, match=r"may hold 50000 bytes and holds .* more are needed"):
        export(OURS["resnet56"], store, "m", 4, bytes_max=50_000)
    assert state(store) == before
    small = Store(store, 10_000)
    with small.adding(), pytest.raises(EngineError, match="may hold 10000 bytes"):
        small.add(bytes(1000) for _ in range(20))
    small.sweep()
    assert state(store) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        path = twice(tmp_path / "model")
        export(path, disk / "m", "m")
        before = state(disk / "m")
        with pytest.raises(EngineError, match=r"No space left on device: make room") as error:
            export(OURS["resnet56"], disk / "m", "m", 4)
        assert state(disk / "m") == before and "\n" not in str(error.value)
        assert chained_is_uncut(path, disk / "m")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


WRITER = """
import sys
from pathlib import Path
from pamdi.engines.export import OURS, export
for units in map(int, sys.argv[2:]):
    export(OURS["resnet56"], Path(sys.argv[1]), "m", units)
"""


def test_two_processes_export_into_one_store_at_once_and_one_of_them_stands_whole(tmp_path: Path) -> None:
    store = tmp_path / "m"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(store), *units])
        for units in (["2", "6", "3", "4"], ["5", "3", "7", "8"])
    ]
    assert [writer.wait(timeout=300) for writer in writers] == [0, 0]
    manifest = read_manifest(store)
    assert len(manifest.units) in (4, 8)  # what one of them published last
    assert chained_is_uncut(OURS["resnet56"], store)
    export(OURS["resnet56"], store, "m", 4)
    manifest = read_manifest(store)
    objects = {path.name for path in (store / "objects").iterdir() if not path.name.startswith(".")}
    assert objects == {info.sha256 for info in manifest.segments}
    assert {path.name for path in store.glob("*.onnx")} == {info.onnx for info in manifest.segments}


def test_a_writer_that_was_killed_leaves_nothing_after_the_next_one(tmp_path: Path) -> None:
    path = twice(tmp_path / "model")
    export(path, tmp_path / "m", "m")
    before = state(tmp_path / "m")
    script = WRITER.replace("export(OURS", "export(OURS").replace('"m", units)', '"m", units, None, kill)')
    script = "import os\ndef kill(line):\n    line.startswith('0001') and os.kill(os.getpid(), 9)\n" + script
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "m"), "4"]).returncode == -9
    assert read_manifest(tmp_path / "m").model == "m" and chained_is_uncut(path, tmp_path / "m")
    assert set(state(tmp_path / "m")) > set(before)
    export(path, tmp_path / "m", "m")
    assert state(tmp_path / "m") == before
