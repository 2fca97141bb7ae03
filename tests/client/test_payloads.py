"""What clients send is read exactly, or refused in a sentence; nothing else can happen."""

import json
import random
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pamdi.client.payloads import (
    Arrays,
    check_inputs,
    digest_of,
    id_of,
    read_command,
    read_outputs,
    read_result,
    read_submission,
    tensors_json,
    write_submission,
)
from pamdi.core.allocation import ModelSpec
from pamdi.core.errors import BadInput, Reason
from pamdi.core.tensors import DTYPE_BYTES
from tests.client.payload_mutations import mutated

MODEL = ModelSpec("m", (12288, 40), (("image", "float32", (-1, 3, 32, 32)),))


def submission(**changes: Any) -> bytes:
    """A right submission of one float32 number, but for ``changes``; those named ``x_...`` are of its tensor."""
    tensor: Dict[str, Any] = {"dtype": "float32", "shape": [1], "data": "AACAPw=="}
    tensor.update({key[2:]: value for key, value in changes.items() if key.startswith("x_")})
    document: Dict[str, Any] = {"id": "w1", "inputs": {"x": tensor}}
    document.update({key: value for key, value in changes.items() if not key.startswith("x_")})
    return json.dumps(document).encode()


def refusal_of(payload: bytes) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read_submission(payload)
    return caught.value


@pytest.mark.parametrize("dtype", sorted(DTYPE_BYTES))
@pytest.mark.parametrize("shape", [(), (0,), (1, 3), (2, 0, 4)])
def test_what_is_written_is_read_again(dtype: str, shape: Any) -> None:
    array = np.ones(shape, dtype)
    read = read_submission(write_submission("w1", {"x": array}, gamma=2.0, deadline_s=0.5))
    assert (read.id, read.gamma, read.deadline_s, read.nbytes) == ("w1", 2.0, 0.5, array.nbytes)
    assert read.inputs["x"].dtype == array.dtype
    assert read.inputs["x"].shape == shape
    assert np.array_equal(read.inputs["x"], array)


@pytest.mark.parametrize("dtype", [">f4", ">i8", "<f4"])
def test_the_order_of_the_bytes_in_memory_is_nobody_elses_matter(dtype: str) -> None:
    array = np.array([[1.5, -2.0, 3.0]]).astype(dtype)
    assert read_submission(write_submission("w", {"x": array})).inputs["x"].tolist() == array.tolist()


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        ({"x": [[0.0, 1.0]]}, "x is a list: give a numpy array, numpy.asarray(x, 'float32')"),
        ({"x": "abc"}, "x is a str: give a numpy array, numpy.asarray(x, 'float32')"),
        (np.zeros(3, "float32"), "inputs are a ndarray: give arrays by the names of the model's inputs"),
    ],
)
def test_what_is_no_array_by_name_is_refused_where_it_is_given(inputs: Any, line: str) -> None:
    with pytest.raises(BadInput) as caught:
        write_submission("w", inputs)
    assert str(caught.value) == line


def test_an_array_that_is_not_contiguous_travels_in_the_order_of_its_indices() -> None:
    array = np.arange(12, dtype="int32").reshape(3, 4).T[::2]
    assert np.array_equal(read_submission(write_submission("w", {"x": array})).inputs["x"], array)


@pytest.mark.parametrize(
    ("changes", "reason", "says"),
    [
        ({"x_data": "!!!!!!=="}, Reason.BAD_INPUT, "data"),
        ({"x_data": "AACAPw"}, Reason.BAD_INPUT, "base64"),
        ({"x_shape": [2]}, Reason.BAD_INPUT, "bytes"),
        ({"x_shape": [-1, -1]}, Reason.BAD_INPUT, "negative"),
        ({"x_shape": [1] * 9}, Reason.BAD_INPUT, "axes"),
        ({"x_shape": [True]}, Reason.BAD_INPUT, "shape"),
        ({"x_shape": [10**6, 10**6]}, Reason.TOO_LARGE, "limit"),
        ({"x_shape": [2**62], "x_data": ""}, Reason.TOO_LARGE, "too long"),
        ({"x_shape": [0, 2**62], "x_data": ""}, Reason.TOO_LARGE, "too long"),
        ({"x_shape": [0, 2**31, 2**31, 2**31], "x_data": ""}, Reason.TOO_LARGE, "too long"),
        ({"x_dtype": "float128"}, Reason.BAD_INPUT, "dtype"),
        ({"x_dtype": "object"}, Reason.BAD_INPUT, "dtype"),
        ({"gamma": 0}, Reason.BAD_INPUT, "gamma"),
        ({"gamma": float("nan")}, Reason.BAD_INPUT, "JSON"),
        ({"gamma": "10"}, Reason.BAD_INPUT, "gamma"),
        ({"deadline_s": -0.1}, Reason.BAD_INPUT, "deadline_s"),
        ({"id": ""}, Reason.BAD_INPUT, "id"),
        ({"id": "a\nb"}, Reason.BAD_INPUT, "id"),
        ({"id": "x" * 129}, Reason.BAD_INPUT, "id"),
        ({"id": 7}, Reason.BAD_INPUT, "id"),
        ({"inputs": {}}, Reason.BAD_INPUT, "inputs"),
        ({"inputs": []}, Reason.BAD_INPUT, "inputs"),
    ],
)
def test_a_lie_is_refused_with_its_reason(changes: Dict[str, Any], reason: Reason, says: str) -> None:
    refusal = refusal_of(submission(**changes))
    assert refusal.reason is reason
    assert says in refusal.detail


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"null", b"5", b"{", b"\xff\xfe\x00", b'{"id":"a"}', b"[" * 100_000,
        b'{"id":"a","inputs":' + b'{"x":' * 100_000,
        b'{"id":"a","new":' + b"[" * 100_000 + b"]" * 100_000 + b',"inputs":{}}',
    ],
)  # fmt: skip
def test_what_is_not_a_submission_is_refused_and_no_worse(payload: bytes) -> None:
    assert refusal_of(payload).reason is Reason.BAD_INPUT


def test_more_json_than_the_limit_allows_is_refused_unread() -> None:
    assert refusal_of(b" " * (12 * 2**20)).reason is Reason.TOO_LARGE


def test_fields_of_a_later_version_are_ignored() -> None:
    assert read_submission(submission(colour="red", x_layout="nchw")).id == "w1"


def test_the_same_input_has_the_same_digest_whatever_the_order_of_its_names() -> None:
    one, two = np.zeros(3, "float32"), np.ones(2, "int8")
    assert digest_of({"a": one, "b": two}) == digest_of({"b": two, "a": one})


def test_another_name_dtype_shape_or_byte_is_another_digest() -> None:
    array = np.zeros((2, 2), "float32")
    others: List[Arrays] = [{"b": array}, {"a": array.view("int32")}, {"a": array.reshape(4)}, {"a": array + 1}]
    assert len({digest_of({"a": array}), *(digest_of(other) for other in others)}) == 5


def test_an_id_is_found_in_a_payload_that_cannot_be_read() -> None:
    assert id_of(b'{"id": "w7", "inputs": {"x": ') == "w7"
    assert id_of(b'{"inputs": 5, "id":"w8"}') == "w8"
    assert id_of(b"\xff\xff") is None
    assert id_of(b'{"id": 7}') is None


@pytest.mark.parametrize("batch", [1, 64])
def test_any_batch_within_the_bound_fits_the_model(batch: int) -> None:
    check_inputs({"image": np.zeros((batch, 3, 32, 32), "float32")}, MODEL)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"picture": np.zeros((1, 3, 32, 32), "float32")}, "picture"),
        ({"image": np.zeros((1, 3, 32, 32), "float64")}, "float64"),
        ({"image": np.zeros((1, 3, 32, 31), "float32")}, "31"),
        ({"image": np.zeros((0, 3, 32, 32), "float32")}, "batch"),
        ({"image": np.zeros((65, 3, 32, 32), "float32")}, "batch"),
        ({"image": np.zeros((3, 32, 32), "float32")}, "shape"),
        ({}, "image"),
    ],
)
def test_inputs_that_do_not_fit_the_model_are_refused(inputs: Dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        check_inputs(inputs, MODEL)


def test_a_result_brings_its_outputs_back() -> None:
    outputs = {"logits": np.arange(10, dtype="float32").reshape(1, 10)}
    tensors = {name: vars_of(tensor) for name, tensor in tensors_json(outputs).items()}
    result = read_result(json.dumps({"id": "w1", "status": "answered", "outputs": tensors, "later": 1}).encode())
    assert np.array_equal(read_outputs(result)["logits"], outputs["logits"])


def vars_of(tensor: Any) -> Dict[str, Any]:
    return {"dtype": tensor.dtype, "shape": tensor.shape, "data": tensor.data}


def test_a_cancel_without_a_printable_id_is_refused() -> None:
    assert read_command(b'{"id": "w1"}').id == "w1"
    for payload in (b"{}", b'{"id": "\\u0000"}', b"w1"):
        with pytest.raises(BadInput):
            read_command(payload)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_value_or_a_refusal(payload: bytes) -> None:
    assert ends_well(payload)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["id", "inputs", "gamma", "deadline_s"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.sampled_from(["x", "dtype", "shape", "data"]), inner, max_size=4)
            ),
            max_leaves=12,
        ),
    )
)
def test_any_json_ends_in_a_value_or_a_refusal(document: Any) -> None:
    assert ends_well(json.dumps(document).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("seed", range(3))
def test_damaged_submissions_end_in_a_value_or_a_refusal(seed: int) -> None:
    chance = random.Random(seed)
    ended = [ends_well(mutated(chance)) for _ in range(2000)]
    assert ended == [True] * 2000


def ends_well(payload: bytes) -> bool:
    try:
        read_submission(payload)
    except BadInput as refusal:
        return bool(refusal.detail)
    return True


def test_a_batch_is_offered_only_by_a_model_that_takes_one() -> None:
    fixed = ModelSpec("m", (256, 40), (("image", "float32", (1, 64)),))
    with pytest.raises(BadInput, match=r"image has shape \[2, 64\]; m takes \[1, 64\]$"):
        check_inputs({"image": np.zeros((2, 64), "float32")}, fixed)
    with pytest.raises(BadInput, match=r"batch 1 to 64$"):
        check_inputs({"image": np.zeros((2, 64), "float32")}, MODEL)
