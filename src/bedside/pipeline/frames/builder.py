"""The state of a frame plan while its steps are planned one after another."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from bedside.errors import SpecError
from bedside.pipeline.frames.transform import FrameTransform
from bedside.spec import InputSpec
from bedside.volume import Box

Image = np.ndarray
Stage = Callable[[Image], Image]

BLACK = "the images looked at are black."
UNIFORM = "the images looked at have one value in all pixels: their labels mean nothing."


@dataclass
class FramePlanBuilder:
    """Steps planned so far; each further step reads and extends it.

    Attributes:
        sample: Some frames of the sequence, as the steps planned so far leave them.
        transform: Where they lie on the source frame.
        input: What the network takes.
        region: Where the file says that the image proper lies, or None.
        force: Whether doubts are warnings instead of errors.
        crop: Part of the decoded frame that the first stage takes.
        aspect: Height of a pixel by its width; 1 where they are square or it is not known.
        stages: Functions from image to image, in order.
        steps: For each step so far its functions, crops among them, in the order of the spec.
        warnings: Sentences for a person.
    """

    sample: list[Image]
    transform: FrameTransform
    input: InputSpec
    region: Box | None
    force: bool
    crop: Box
    aspect: float = 1.0
    stages: list[Stage] = field(default_factory=list)
    steps: list[list[Stage]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _pointwise: bool = True

    def add(self, stage: Stage, *, pointwise: bool = False) -> None:
        """Append a stage.

        Args:
            stage: From image to image.
            pointwise: Whether each pixel of its result depends on that pixel alone, to the bit.
        """
        self.sample = [stage(image) for image in self.sample]
        self.stages.append(stage)
        self.steps[-1].append(stage)
        self._pointwise = self._pointwise and pointwise

    def keep(self, part: Box) -> None:
        """Crop the image to `part`: before all stages if they are pointwise, which costs less."""
        box, crop = self.transform.box, self.crop
        self.transform = replace(
            self.transform, box=_within(box, part), inner=Box(0, 0, part.height, part.width)
        )
        if not self._pointwise:
            self.add(lambda image: image[part.slices])
            return
        self.steps[-1].append(lambda image: image[part.slices])
        self.crop = _within(crop, part)
        self.sample = [image[part.slices] for image in self.sample]

    def check_unscaled(self, step: str) -> None:
        """Refuse to crop an image that no longer has the source's own pixels.

        Raises:
            SpecError: If it has been scaled.
        """
        box = self.transform.box
        if self.transform.inner != Box(0, 0, box.height, box.width):
            raise SpecError(f"{step} cuts the source's own pixels; move it in front of fit.")


def _within(outer: Box, part: Box) -> Box:
    """Part of a box, in the coordinates of that box."""
    return Box(
        top=outer.top + part.top,
        left=outer.left + part.left,
        bottom=outer.top + part.bottom,
        right=outer.left + part.right,
    )
