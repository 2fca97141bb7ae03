"""What a device says of its store when it introduces itself."""

from pathlib import Path
from typing import List

from pamdi.daemon.config import DaemonConfig
from pamdi.daemon.info import device_info
from pamdi.engines.stub_backend import StubBackend


def said(store: Path, **more: str) -> List[str]:
    lines: List[str] = []
    config = DaemonConfig(id="d0", type="x86-cpu", store=str(store), **more)  # type: ignore[arg-type]
    assert device_info(config, 1, 7420, StubBackend(), lines.append).models == {}
    return lines


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    (line,) = said(tmp_path / "stroe")
    assert line.startswith(f"store {tmp_path / 'stroe'} is no folder: ")


def test_an_empty_store_and_one_to_be_pulled_are_nothing_to_tell(tmp_path: Path) -> None:
    assert said(tmp_path) == []
    assert said(tmp_path / "later", store_url="http://10.0.0.1:8080") == []
