"""Payloads as raw bytes: what goes in comes out, and a description is a claim until it agrees with the bytes."""

from typing import Any, List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pamdi.core.errors import BadInput
from pamdi.core.tensors import DTYPE_BYTES, TensorSpec
from pamdi.daemon.arrays import buffers, nbytes, payload_from, specs

shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


def raw(payload: Any) -> bytes:
    return b"".join(buffers(payload))


@given(st.lists(st.tuples(st.sampled_from(sorted(DTYPE_BYTES)), shapes), max_size=5), st.integers(0, 2**31))
def test_every_payload_comes_out_as_it_went_in(described: "List[Tuple[str, Tuple[int, ...]]]", seed: int) -> None:
    drawn = np.random.RandomState(seed)
    payload = {f"t{i}": drawn.randint(0, 2, shape).astype(dtype) for i, (dtype, shape) in enumerate(described)}
    data = raw(payload)
    came = payload_from(specs(payload), data)
    assert len(data) == nbytes(payload) and list(came) == list(payload)
    for name, array in payload.items():
        assert came[name].dtype == array.dtype and came[name].shape == array.shape
        assert np.array_equal(came[name], array) and came[name].flags.aligned


def test_bytes_are_shared_with_the_payload_in_both_directions() -> None:
    array = np.arange(6, dtype=np.float32)
    assert np.shares_memory(np.frombuffer(buffers({"x": array})[0], np.uint8), array)
    data = bytearray(raw({"x": array}))
    assert np.shares_memory(payload_from(specs({"x": array}), data)["x"], np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    "array",
    [np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1), np.arange(5, dtype=">f4"), np.array(7.5)],
)
def test_strided_and_big_endian_arrays_travel_by_value(array: Any) -> None:
    came = payload_from(specs({"x": array}), raw({"x": array}))["x"]
    assert np.array_equal(came, array) and came.shape == array.shape and came.dtype.isnative


def test_an_array_that_may_not_travel_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="tensor x: object cannot travel; use one of bool"):
        specs({"x": np.array([None])})


@pytest.mark.parametrize(
    "described",
    [
        [("x", "float32", (-1,))],
        [("x", "float32", (-2, -2))],
        [("x", "object", (1,))],
        [("x", "S16", (1,))],
        [("x", "float32", (3,))],
        [("x", "float32", (5,))],
        [("x", "float32", (2,)), ("x", "float32", (2,))],
        [("x", "float32", (4,)), ("y", "float32", (0, 2**62, 2**62))],
        [("x", "float32", (4,)), ("y", "float32", (0, 2**64 - 1))],
        [("x", "float32", (4,) + (1,) * 32)],
        [("x", "uint8", (2**63,) * 30)],
        [],
    ],
)
def test_a_false_description_of_sixteen_bytes_is_bad_input(described: "List[Tuple[str, str, Tuple[int, ...]]]") -> None:
    with pytest.raises(BadInput):
        payload_from([TensorSpec(*spec) for spec in described], bytes(16))
