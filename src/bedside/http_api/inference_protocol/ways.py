"""What a bundle takes and returns as tensors: an image and its labels, or its network alone.

    NAME           image (frames, height, width) -> labels on the same grid, as `bedside segment`
    NAME.network   tensor (batch, channels, *size) -> logits (batch, classes, *size / stride)

The first does all that the bundle says, and is what most clients want. The second leaves pre- and
postprocessing to a client that has its own; its tensors are those of `bedside export --golden`, of
a 3D network one window of them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from bedside.errors import LimitError, MessageError, NoModelError
from bedside.http_api.inference_protocol.messages import InferenceRequest
from bedside.service.admission import Lane, Place
from bedside.service.engine import Engine
from bedside.service.wanted import in_service_words
from bedside.spec import DeploymentSpec
from bedside.volume import ImageSequence

MAX_LOGIT_BYTES = 2**29
"""Largest logits of one request."""

_NETWORK = "network"


@dataclass(frozen=True)
class Tensor:
    """A tensor as metadata describes it.

    Attributes:
        name: Its name.
        datatype: Of the protocol.
        shape: Sizes; -1 where any will do.
        optional: Whether a request may leave it out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Way(ABC):
    """One way to use a bundle.

    Attributes:
        engine: Segments.
        model: Name of the model that it serves.
        spec: Its spec.
    """

    engine: Engine
    model: str
    spec: DeploymentSpec

    @property
    @abstractmethod
    def inputs(self) -> tuple[Tensor, ...]:
        """What it takes."""

    @property
    @abstractmethod
    def output(self) -> Tensor:
        """What it returns."""

    @property
    def lane(self) -> Lane:
        """The class of work that one request is."""
        return self.engine.lane(self.model)

    @abstractmethod
    def run(self, request: InferenceRequest, place: Place) -> tuple[np.ndarray, Mapping[str, str]]:
        """Return the output for a request, and what is to be said about it.

        Args:
            request: Its inputs have the names that `inputs` lists.
            place: The turn.

        Raises:
            BedsideError: As `Engine.segment` and `Session.predict`.
        """


class ImageWay(Way):
    """An image in, its labels out."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The image, and its place in the patient if it is known."""
        return (
            Tensor("image", "FP32", (-1, -1, -1, 3) if self._is_color else (-1, -1, -1)),
            Tensor("spacing_mm", "FP64", (-1,), optional=True),
            Tensor("affine_lps", "FP64", (4, 4), optional=True),
        )

    @property
    def output(self) -> Tensor:
        """The labels."""
        return Tensor("labels", "UINT8", (-1, -1, -1))

    def run(self, request: InferenceRequest, place: Place) -> tuple[np.ndarray, Mapping[str, str]]:
        """Segment an image: labels (frames, height, width), and warnings."""
        image = self._split_channels(request.inputs["image"])
        spacing, affine = (request.inputs.get(name) for name in ("spacing_mm", "affine_lps"))
        axis = request.parameters.get("third_axis")
        if axis not in (None, "time", "space"):
            raise MessageError(f'parameter "third_axis" is {axis!r:.40}; expected time or space.')
        sequence = ImageSequence.from_array(
            image,
            affine=affine,
            space=None if affine is None else "LPS",
            spacing_mm=None if spacing is None else spacing.ravel().tolist(),
            third_axis=cast("Literal['time', 'space'] | None", axis),
        )
        result = self.engine.segment(self.model, sequence, place=place)
        return result.label_map.array, {
            "warnings": "\n".join(map(in_service_words, result.warnings))
        }

    @property
    def _is_color(self) -> bool:
        return self.spec.input.channels == 3 and not self.spec.input.neighbours

    def _split_channels(self, image: np.ndarray) -> np.ndarray:
        """Return an image as (frames, channels, height, width).

        Raises:
            MessageError: If it has other axes.
        """
        if image.dtype == np.float16:
            image = image.astype(np.float32)
        has_color = image.shape[-1] == 3 and (
            image.ndim == 4 or (image.ndim == 3 and self._is_color)
        )
        planes = image.ndim - has_color
        if planes not in (2, 3) or has_color < self._is_color:
            axes = "height, width, 3" if self._is_color else "height, width"
            raise MessageError(
                f'input "image" has the shape {list(image.shape)}; expected ({axes}) or '
                f"(frames, {axes})."
            )
        image = np.moveaxis(image, -1, -3) if has_color else image[..., None, :, :]
        return image if planes == 3 else image[None]


class NetworkWay(Way):
    """The network alone: a preprocessed tensor in, logits out."""

    @property
    def lane(self) -> Lane:
        """That of images: one window is no whole scan."""
        return Lane.IMAGE

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensor."""
        taken = self.spec.input
        return (Tensor("tensor", "FP32", (-1, taken.channels, *taken.size_px)),)

    @property
    def output(self) -> Tensor:
        """The logits."""
        model = self.spec.model
        sizes = (size // model.logit_stride for size in self.spec.input.size_px)
        return Tensor("logits", "FP32", (-1, model.num_classes, *sizes))

    def run(self, request: InferenceRequest, place: Place) -> tuple[np.ndarray, Mapping[str, str]]:
        """Run the network, one tensor of the batch after another."""
        tensor = request.inputs["tensor"]
        shape = (len(tensor), *self.output.shape[1:])
        n_bytes = 4 * math.prod(shape)
        if n_bytes > MAX_LOGIT_BYTES:
            raise LimitError(
                f"the logits of {len(tensor)} tensors have {n_bytes / 2**20:.0f} MiB; at most "
                f"{MAX_LOGIT_BYTES / 2**20:g} are sent. Send fewer at once."
            )
        logits = []
        with self.engine.model(self.model) as loaded:
            for index in range(len(tensor)):
                place.check()
                logits.append(loaded.segmenter.session.predict(tensor[index : index + 1]))
        return np.concatenate(logits), {}


def find_way(engine: Engine, name: str, version: str = "") -> Way:
    """Return how a model is used.

    Args:
        engine: Segments.
        name: Name of a model, or that with ".network".
        version: Its version; empty for any.

    Raises:
        NoModelError: If there is no such model, or not in this version.
    """
    model, dot, rest = name.partition(".")
    if dot and rest != _NETWORK:
        raise NoModelError(f'no model "{name:.80}". "NAME.{_NETWORK}" is the network of NAME.')
    spec = engine.bundle(model).spec
    if version and version != spec.version:
        raise NoModelError(
            f'model "{model}" has no version "{version:.40}". Its version is {spec.version}.'
        )
    return (NetworkWay if dot else ImageWay)(engine, model, spec)


def list_names(engine: Engine) -> tuple[str, ...]:
    """Return the names of all models, each in its two ways."""
    return tuple(f"{name}{end}" for name in engine.names for end in ("", f".{_NETWORK}"))


def check_tensors(way: Way, request: InferenceRequest) -> None:
    """Return if a request names the tensors of a way.

    Raises:
        MessageError: If one is missing, unknown, or of another number of axes.
    """
    known = {tensor.name: tensor for tensor in way.inputs}
    for name, array in request.inputs.items():
        if name not in known:
            raise MessageError(f'there is no input "{name:.60}". Expected {", ".join(known)}.')
        _check_shape(known[name], array)
    for tensor in way.inputs:
        if not tensor.optional and tensor.name not in request.inputs:
            raise MessageError(f'the request has no input "{tensor.name}".')
    for name in request.outputs:
        if name != way.output.name:
            raise MessageError(f'there is no output "{name:.60}", only {way.output.name}.')


def _check_shape(tensor: Tensor, array: np.ndarray) -> None:
    """Compare the shape of an array with its description; an image is checked by its own rules."""
    fits = array.ndim == len(tensor.shape) and all(
        wanted in (-1, own) for wanted, own in zip(tensor.shape, array.shape, strict=True)
    )
    if tensor.name != "image" and not fits:
        raise MessageError(
            f'input "{tensor.name}" has the shape {list(array.shape)}; expected '
            f"{list(tensor.shape)}, where -1 is any number."
        )


def describe(name: str, way: Way) -> dict[str, Any]:
    """Return the metadata of a model."""
    return {
        "name": name,
        "versions": [way.spec.version],
        "platform": "bedside",
        "inputs": [_describe(tensor) for tensor in way.inputs if not tensor.optional],
        "outputs": [_describe(way.output)],
    }


def configure(name: str, way: Way) -> dict[str, Any]:
    """Return the configuration of a model in the words of Triton, with its optional inputs."""

    def row(tensor: Tensor) -> dict[str, Any]:
        dims = {"data_type": f"TYPE_{tensor.datatype}", "dims": list(tensor.shape)}
        return {"name": tensor.name, **dims, **({"optional": True} if tensor.optional else {})}

    return {
        "name": name,
        "platform": "bedside",
        "backend": "bedside",
        "max_batch_size": 0,
        "input": [row(tensor) for tensor in way.inputs],
        "output": [row(way.output)],
    }


def _describe(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
