"""Requests and responses of inference: JSON, and raw tensors behind it.

Every size that a request claims is compared with the bytes that are there, before an array is made.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from bedside.errors import LimitError, MessageError

DATATYPES: Mapping[str, np.dtype] = MappingProxyType({
    "UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"),
    "INT8": np.dtype("i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"),
    "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
})  # fmt: skip
"""The datatypes of tensors, little-endian."""

MAX_JSON_BYTES = 2**24
"""Largest JSON of a request: Python holds a number of four characters in 32 bytes."""

MAX_JSON_NUMBERS = 2**22
"""Most numbers of a response in JSON."""

_MAX_AXES, _MAX_AXIS, _MAX_TENSORS, _MAX_ID = 8, 2**31, 16, 1024


@dataclass(frozen=True)
class InferenceRequest:
    """A request that was read.

    Attributes:
        id: What the client calls it; it stands in the response too.
        inputs: Arrays by name, views of the body where they came as raw bytes.
        outputs: Whether each output that is asked for comes as raw bytes; empty for all outputs.
        binary: Whether outputs come as raw bytes that are not asked for one by one.
        parameters: Numbers, texts and truth values that the client added.
        timeout_s: Seconds after which the client does not want the answer; None for no limit.
    """

    id: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, bool] = field(default_factory=dict)
    binary: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None


def read_request(body: bytes | bytearray, json_bytes: int | None = None) -> InferenceRequest:
    """Read the body of a request.

    Args:
        body: JSON, and after it the tensors that are not in it.
        json_bytes: Length of the JSON; None if there is nothing else.

    Raises:
        MessageError: If it is not what the protocol asks for.
        LimitError: If its JSON is larger than is read.
    """
    whole = memoryview(body)
    json_bytes = len(whole) if json_bytes is None else json_bytes
    if not 0 < json_bytes <= len(whole):
        raise MessageError(
            f"the JSON of the request is stated to have {json_bytes} bytes, and its body has "
            f"{len(whole)}."
        )
    if json_bytes > MAX_JSON_BYTES:
        raise LimitError(
            f"the JSON of the request has {json_bytes / 2**20:.1f} MiB; at most "
            f"{MAX_JSON_BYTES / 2**20:g} are read. Send tensors as raw bytes (binary_data)."
        )
    request = _read_json(whole[:json_bytes])
    parameters = _object(request, "parameters", "the request")
    inputs = _read_inputs(request, whole[json_bytes:])
    for name in ("sequence_id", "sequence_start", "sequence_end"):
        if parameters.get(name):
            raise MessageError(f"{name} is set; requests are independent of each other here.")
    binary = _flag(parameters, "binary_data_output")
    return InferenceRequest(
        id=_text(request, "id", "the request"),
        inputs=inputs,
        outputs=_read_outputs(request, binary=binary),
        binary=binary,
        parameters=parameters,
        timeout_s=_read_timeout(parameters),
    )


def write_response(
    head: Mapping[str, Any], tensors: Sequence[tuple[str, np.ndarray, bool]]
) -> tuple[bytes, int | None]:
    """Return the body of a response.

    Args:
        head: What stands beside the outputs, such as the name of the model.
        tensors: Name, array and whether it is sent as raw bytes, of each output.

    Returns:
        The body, and the length of its JSON if raw bytes follow it.

    Raises:
        LimitError: If an output is too large for JSON.
    """
    outputs, raw = [], []
    for name, array, binary in tensors:
        row: dict[str, Any] = {
            "name": name, "datatype": datatype_of(array), "shape": list(array.shape)
        }  # fmt: skip
        if binary:
            raw.append(np.ascontiguousarray(array, DATATYPES[row["datatype"]]).tobytes())
            row["parameters"] = {"binary_data_size": len(raw[-1])}
        elif array.size > MAX_JSON_NUMBERS:
            raise LimitError(
                f'output "{name}" has {array.size} values, too many for JSON. Ask for raw bytes '
                "(binary_data)."
            )
        else:
            row["data"] = array.ravel().tolist()
        outputs.append(row)
    text = json.dumps({**head, "outputs": outputs}, allow_nan=False).encode()
    return b"".join((text, *raw)), len(text) if raw else None


def datatype_of(array: np.ndarray) -> str:
    """Return the datatype of an array.

    Example:
        >>> datatype_of(np.zeros(3, np.float32))
        'FP32'
    """
    return next(name for name, dtype in DATATYPES.items() if dtype == array.dtype)


def _read_timeout(parameters: Mapping[str, Any]) -> float | None:
    """Return the time-out in seconds, which Triton's clients state in microseconds."""
    if "timeout" not in parameters:
        return None
    timeout = _whole(parameters["timeout"])
    if timeout is None or not 0 < timeout < 2**62:
        raise MessageError(f"timeout is {parameters['timeout']!r:.40}; expected microseconds.")
    return timeout / 1e6


def _read_json(content: memoryview) -> dict[str, Any]:
    try:
        request = json.loads(str(content, "utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"the request is not JSON: {_reason(error)}.") from error
    if not isinstance(request, dict):
        raise MessageError("the request is not a JSON object.")
    return request


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deep"
    return str(error).rstrip(".")[:200]


def _read_inputs(request: Mapping[str, Any], raw: memoryview) -> dict[str, np.ndarray]:
    """Return the arrays by name."""
    arrays: dict[str, np.ndarray] = {}
    for row in _rows(request, "inputs"):
        name, shape, dtype = _read_tensor(row, arrays)
        where = f'input "{name}"'
        parameters = _object(row, "parameters", where)
        if "shared_memory_region" in parameters:
            raise MessageError(f"{where} is in shared memory, which is not read. Send its bytes.")
        size = parameters.get("binary_data_size")
        if (size is None) == ("data" not in row):
            raise MessageError(f"{where} needs either data or binary_data_size.")
        if size is None:
            arrays[name] = _read_numbers(row["data"], shape, dtype, where)
            continue
        expected = math.prod(shape) * dtype.itemsize
        if _whole(size) != expected:
            raise MessageError(
                f"{where} has binary_data_size {size!r:.40}; its shape and datatype make "
                f"{expected} bytes."
            )
        if expected > len(raw):
            raise MessageError(
                f"{where} has {expected} bytes, and {len(raw)} are left in the body."
            )
        arrays[name] = np.frombuffer(raw[:expected], dtype).reshape(shape)
        raw = raw[expected:]
    if len(raw):
        raise MessageError(f"{len(raw)} bytes of the body belong to no input.")
    if not arrays:
        raise MessageError("the request has no inputs.")
    return arrays


def _read_tensor(
    row: Mapping[str, Any], known: Mapping[str, Any]
) -> tuple[str, tuple[int, ...], np.dtype]:
    """Return name, shape and type of an input."""
    name = row.get("name")
    if not isinstance(name, str) or not name or name in known:
        raise MessageError(f"an input has the name {name!r:.60}; expected a text of its own.")
    datatype = row.get("datatype")
    dtype = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise MessageError(
            f'input "{name:.60}" has the datatype {datatype!r:.40}; expected one of '
            f"{', '.join(DATATYPES)}."
        )
    shape = row.get("shape")
    axes = [_whole(axis) for axis in shape] if isinstance(shape, list) else []
    if not 0 < len(axes) <= _MAX_AXES or not all(axis and 0 < axis < _MAX_AXIS for axis in axes):
        raise MessageError(
            f'input "{name:.60}" has the shape {shape!r:.80}; expected 1 to {_MAX_AXES} numbers '
            "above 0."
        )
    return name, tuple(axis for axis in axes if axis), dtype


def _read_numbers(data: Any, shape: tuple[int, ...], dtype: np.dtype, where: str) -> np.ndarray:
    """Return an array of the numbers in JSON, which may nest as the shape does."""
    if not isinstance(data, list):
        raise MessageError(f"the data of {where} is no list.")
    for _ in range(_MAX_AXES):
        if not any(isinstance(each, list) for each in data):
            break
        if not all(isinstance(each, list) for each in data):
            raise MessageError(f"the data of {where} mixes lists and numbers.")
        data = list(itertools.chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise MessageError(
            f"the data of {where} has {len(data)} values; its shape makes {math.prod(shape)}."
        )
    if not all(isinstance(each, int | float) for each in data):
        raise MessageError(f"the data of {where} has values that are no numbers.")
    try:
        if dtype.kind != "f" and not all(isinstance(each, int) for each in data):
            raise ValueError("it has fractions")
        with np.errstate(over="ignore"):
            return np.array(data, dtype).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise MessageError(
            f"the data of {where} does not fit its datatype: {_reason(error)}."
        ) from error


def _read_outputs(request: Mapping[str, Any], *, binary: bool) -> dict[str, bool]:
    """Return whether each output that is asked for comes as raw bytes."""
    asked: dict[str, bool] = {}
    for row in _rows(request, "outputs"):
        name = _text(row, "name", "an output")
        parameters = _object(row, "parameters", f'output "{name}"')
        unknown = {"classification", "shared_memory_region"} & set(parameters)
        if not name or name in asked or unknown:
            raise MessageError(
                f'output "{name}" cannot be sent: '
                + (f"{min(unknown)} is not supported." if unknown else "each has one name.")
            )
        asked[name] = _flag(parameters, "binary_data", otherwise=binary)
    return asked


def _rows(request: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a list of objects."""
    rows = request.get(name, [])
    if (
        not isinstance(rows, list)
        or len(rows) > _MAX_TENSORS
        or not all(isinstance(row, dict) for row in rows)
    ):
        raise MessageError(f'"{name}" is not a list of at most {_MAX_TENSORS} objects.')
    return rows


def _object(row: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    value = row.get(name, {})
    if not isinstance(value, dict):
        raise MessageError(f'"{name}" of {where:.80} is not an object.')
    return value


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str) or len(value) > _MAX_ID:
        raise MessageError(f'"{name}" of {where} is not a text of at most {_MAX_ID} characters.')
    return value


def _flag(parameters: Mapping[str, Any], name: str, *, otherwise: bool = False) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise MessageError(f'parameter "{name}" is {value!r:.40}; expected true or false.')
    return value


def _whole(value: Any) -> int | None:
    """Return a whole number; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
