"""The state of a scan while the steps of a volume pipeline change it."""

import numpy as np

from bedside.pipeline.resize import resize_linear
from bedside.pipeline.volumes.scan import crop_scan, read_scan, resample_scan
from bedside.pipeline.volumes.transform import Shape3
from bedside.volume import ImageSequence, Orientation


class VolumeBuilder:
    """A scan and what its steps have done to it so far.

    Args:
        sequence: The scan as stored.
        multiple: Voxels that sizes are to be a multiple of where they are chosen.
        foreseen: Track the shape only, without reading the scan.
        modality: Of the bundle.

    Attributes:
        sequence: The part of the stored scan that is looked at.
        body: Where that part lies along (D, H, W) as stored; None if it is all.
        multiple: As given.
        modality: As given.
        orientation: How its axes were turned.
        spacing_mm: Of the array, along (D, H, W); None if unknown.
        warnings: Sentences for a person.
    """

    def __init__(
        self,
        sequence: ImageSequence,
        *,
        multiple: int = 1,
        foreseen: bool = False,
        modality: str = "",
    ) -> None:
        self.sequence = sequence
        self.body: tuple[slice, ...] | None = None
        self.multiple = multiple
        self.modality = modality
        self._foreseen = foreseen
        self.orientation = Orientation()
        self.spacing_mm = sequence.voxel_mm
        self.warnings: list[str] = []
        self._array: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        """(C, D, H, W), as the steps so far leave it; read from the file when first asked for."""
        if self._array is None:
            self._array = self.orientation.apply(read_scan(self.sequence))
        return self._array

    @array.setter
    def array(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def shape(self) -> Shape3:
        """(D, H, W) of the array, which need not have been read for it."""
        if self._array is not None:
            depth, height, width = self._array.shape[1:]
            return depth, height, width
        frames, _, height, width = self.sequence.shape
        return self.orientation.reorder((frames, height, width))

    def crop(self, body: tuple[slice, ...]) -> None:
        """Keep a box of the stored scan; before anything has been read or turned."""
        self.sequence, self.body = crop_scan(self.sequence, body), body

    def turn(self, orientation: Orientation) -> None:
        """Turn the axes; before anything else has changed the array."""
        if self._array is not None:
            self._array = orientation.apply(self._array)
        self.orientation = orientation

    def own(self) -> np.ndarray:
        """The array as float32 that may be written to."""
        array = self.array
        if array.dtype != np.float32 or not array.flags.writeable:
            array = np.array(array, np.float32)
        return array

    def resize(self, shape: Shape3) -> None:
        """Resize the array, slice by slice if it has not been read yet."""
        if self._foreseen:
            # An array of this shape without its memory.
            self._array = np.broadcast_to(np.float32(0), (self.sequence.shape[1], *shape))
            return
        if self._array is not None:
            self.array = resize_linear(self._array, shape)
            return
        stored = [0, 0, 0]
        for axis, size in zip(self.orientation.order, shape, strict=True):
            stored[axis] = size
        self.array = self.orientation.apply(resample_scan(self.sequence, stored))
