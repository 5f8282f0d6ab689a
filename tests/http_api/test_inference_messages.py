"""Tensors of the Open Inference Protocol come and go unchanged; false sizes are refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.errors import InputError, LimitError, MessageError
from bedside.http_api.inference_protocol.messages import (
    DATATYPES,
    MAX_JSON_BYTES,
    read_request,
    write_response,
)


def pack(arrays, **more):
    """A request with raw tensors, as Triton's client writes it."""
    rows, raw = [], b""
    for name, array in arrays.items():
        datatype = next(key for key, dtype in DATATYPES.items() if dtype == array.dtype)
        content = array.tobytes()
        rows.append(
            {"name": name, "shape": list(array.shape), "datatype": datatype,
             "parameters": {"binary_data_size": len(content)}}
        )  # fmt: skip
        raw += content
    head = json.dumps({"inputs": rows, **more}).encode()
    return head + raw, len(head)


def as_json(**tensor):
    row = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2], **tensor}
    row = {name: value for name, value in row.items() if value is not ...}
    return json.dumps({"inputs": [row]}).encode()


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_tensors_of_every_datatype_are_read(datatype):
    array = np.arange(6).astype(DATATYPES[datatype]).reshape(1, 2, 3)
    body, length = pack({"x": array, "y": array[0, :, :1].copy()}, id="7")
    request = read_request(body, length)
    assert request.id == "7"
    np.testing.assert_array_equal(request.inputs["x"], array)
    np.testing.assert_array_equal(request.inputs["y"], array[0, :, :1])
    assert request.inputs["x"].dtype == array.dtype


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_numbers_in_json_are_read_flat_or_nested(data):
    request = read_request(as_json(shape=[2, 2], data=data))
    np.testing.assert_array_equal(request.inputs["x"], [[1, 2], [3, 4]])


def test_outputs_are_raw_or_json_as_each_is_asked_for():
    asked = [{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}]
    body = json.loads(as_json())
    assert read_request(json.dumps({**body, "outputs": asked}).encode()).outputs == {
        "a": True, "b": False,
    }  # fmt: skip
    whole = read_request(json.dumps({**body, "parameters": {"binary_data_output": True}}).encode())
    assert (whole.outputs, whole.binary) == ({}, True)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ({"shape": [3]}, "its shape makes 3"),
        ({"shape": [0]}, "shape"),
        ({"shape": [-1]}, "shape"),
        ({"shape": [2**40]}, "shape"),
        ({"shape": [1.0, 2]}, "shape"),
        ({"shape": [True, 2]}, "shape"),
        ({"shape": []}, "shape"),
        ({"shape": [1] * 9}, "shape"),
        ({"shape": [10**200] * 8}, "shape"),
        ({"shape": "2"}, "shape"),
        ({"datatype": "BYTES"}, "datatype"),
        ({"datatype": None}, "datatype"),
        ({"datatype": ["FP32"]}, "datatype"),
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"data": ...}, "either data or"),
        ({"data": [1, "2"]}, "no numbers"),
        ({"data": [1, None]}, "no numbers"),
        ({"data": [[1], 2]}, "mixes"),
        ({"data": {"0": 1}}, "no list"),
        ({"data": [[[[[[[[[[1, 2]]]]]]]]]]}, "values|numbers"),
        ({"datatype": "UINT8", "data": [1, 256]}, "does not fit"),
        ({"datatype": "UINT8", "data": [1, -1]}, "does not fit"),
        ({"datatype": "INT16", "data": [1, 2.5]}, "fractions"),
        ({"data": [1, 10**400]}, "does not fit"),
        ({"parameters": {"binary_data_size": 8}}, "either data or"),
        ({"parameters": []}, "not an object"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared memory"),
        ({"data": ..., "parameters": {"binary_data_size": 8}}, "0 are left"),
        ({"data": ..., "parameters": {"binary_data_size": 7}}, "8 bytes"),
        ({"data": ..., "parameters": {"binary_data_size": -8}}, "8 bytes"),
        ({"data": ..., "parameters": {"binary_data_size": True}}, "8 bytes"),
        ({"data": ..., "parameters": {"binary_data_size": 10**3000}}, "8 bytes"),
        (
            {"shape": [2**30] * 8, "data": ..., "parameters": {"binary_data_size": 2**240 * 4}},
            "are left in the body",
        ),
    ],
)
def test_a_false_tensor_is_refused(tensor, words):
    with pytest.raises(MessageError, match=words):
        read_request(as_json(**tensor))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "3", "null", "{", '{"inputs": {}}', '{"inputs": []}', "{}", '{"inputs": [3]}',
        "[" * 100_000, '{"a":' * 100_000, '{"inputs": ' + "[" * 5000, "\ud800", '{"id": 3}',
        '{"id": "' + "x" * 2000 + '", "inputs": []}', '{"inputs": [{"data": [NaN]}]}',
        '{"inputs": [' + ",".join(["{}"] * 100) + "]}", '{"a": ' + "9" * 5000 + "}",
        '{"parameters": 3, "inputs": []}', '{"outputs": 3, "inputs": []}',
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(text):
    with pytest.raises(MessageError):
        read_request(text.encode("utf-8", "surrogatepass"))


def test_a_name_may_stand_once():
    row = json.loads(as_json())["inputs"][0]
    with pytest.raises(MessageError, match="of its own"):
        read_request(json.dumps({"inputs": [row, row]}).encode())


@pytest.mark.parametrize("parameter", ["classification", "shared_memory_region"])
def test_outputs_in_other_forms_are_refused(parameter):
    body = {**json.loads(as_json()), "outputs": [{"name": "y", "parameters": {parameter: 1}}]}
    with pytest.raises(MessageError, match=parameter):
        read_request(json.dumps(body).encode())


def test_requests_that_belong_together_are_refused():
    body = {**json.loads(as_json()), "parameters": {"sequence_id": 4}}
    with pytest.raises(MessageError, match="sequence_id"):
        read_request(json.dumps(body).encode())


@pytest.mark.parametrize("timeout", [0, -1, "1", True, 1.5, 10**30])
def test_a_time_is_a_number_of_microseconds(timeout):
    body = {**json.loads(as_json()), "parameters": {"timeout": timeout}}
    with pytest.raises(MessageError, match="timeout"):
        read_request(json.dumps(body).encode())
    body["parameters"]["timeout"] = 1500
    assert read_request(json.dumps(body).encode()).timeout_s == 0.0015


@pytest.mark.parametrize("change", [-1, 1, 10**9])
def test_the_length_of_the_json_is_compared_with_the_body(change):
    body, length = pack({"x": np.zeros(2, np.float32)})
    with pytest.raises(MessageError):
        read_request(body, length + change)


@pytest.mark.parametrize("rest", [b"", b"12345"])
def test_bytes_missing_or_left_over_are_refused(rest):
    body, length = pack({"x": np.zeros(2, np.float32)})
    with pytest.raises(MessageError, match=r"left|belong"):
        read_request(body[:-1] if not rest else body + rest, length)


def test_json_has_a_limit():
    with pytest.raises(LimitError, match="binary_data"):
        read_request(b" " * (MAX_JSON_BYTES + 1))


@given(st.data())
def test_a_mutated_request_is_read_or_refused_and_nothing_else(data):
    body, length = pack(
        {"x": np.ones((2, 3), np.float32)}, outputs=[{"name": "y"}], parameters={"a": 1}, id="q"
    )
    body = bytearray(body)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255) | st.sampled_from(b'0123456789[]{}",-'))
    body = bytes(body[: data.draw(st.integers(0, len(body)))])
    length = data.draw(st.sampled_from([None, length, 0, len(body), length + 1]))
    try:
        request = read_request(body, length)
    except InputError:
        return
    assert sum(array.nbytes for array in request.inputs.values()) <= 16 * len(body)


def test_a_response_holds_its_tensors_raw_or_as_json():
    labels, logits = np.uint8([[0, 1], [2, 3]]), np.float32([0.5, -1])
    body, length = write_response(
        {"model_name": "m"}, [("labels", labels, False), ("logits", logits, True)]
    )
    head = json.loads(body[:length])
    assert head == {
        "model_name": "m",
        "outputs": [
            {"name": "labels", "datatype": "UINT8", "shape": [2, 2], "data": [0, 1, 2, 3]},
            {"name": "logits", "datatype": "FP32", "shape": [2],
             "parameters": {"binary_data_size": 8}},
        ],
    }  # fmt: skip
    assert body[length:] == logits.tobytes()
    assert write_response({}, [("labels", labels, False)])[1] is None


def test_a_large_output_is_sent_raw_only():
    with pytest.raises(LimitError, match="binary_data"):
        write_response({}, [("labels", np.zeros((5000, 1000), np.uint8), False)])
