"""Frames that are decoded on request, and the labels of each."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from bedside.errors import FormatError, GeometryError
from bedside.volume.geometry import Geometry, Space, check_right_angles
from bedside.volume.uneven import UnevenSlices


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows `top` to `bottom`, columns `left` to `right`, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index that cuts this box out of the last two axes of an array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class ImageSequence:
    """A sequence of two-dimensional frames on one grid; a still image has one frame.

    The slices of a scan are frames too, in the order stored; `geometry` places them.

    Frames are decoded one at a time, on request: a long recording is never held in memory,
    and the first frame does not wait for the last.

    Attributes:
        shape: (frames, channels, height, width).
        decode: Returns frame `index` as (C, H, W), channels first, in the stored dtype.
            Three channels are RGB.
        modality: DICOM's word for the kind of image ("US", "MR", "CT", "XC"), or None
            where the file does not say.
        spacing_mm: (row, column) distance in mm; None if unknown or not to be trusted.
        frame_time_ms: Time from one frame to the next in ms, on average where it varies; None
            if unknown.
        frame_starts_ms: Start of each frame in ms from the first, where frames do not
            follow each other evenly; None where they do, or where it is not known.
        region: The part of the frame that holds the image, checked to fit
            the frame; None if the file does not say or is not to be trusted.
        warnings: What was corrected or cannot be trusted, in sentences for the user.
        geometry: Grid in the patient, (frames, height, width), if the frames are
            the slices of a scan; None for frames over time, or where the file does not say. Of
            uneven slices its first axis has the position of the first and their direction.
        slice_spacing_mm: Distance from slice to slice in mm, the mean of uneven ones; None
            if there is none, or it is not to be trusted.
        unknown: Frames in the place of missing slices, which get no labels.
        third_axis: Whether frames follow each other in time or in space; None where the file
            does not say which.
        pixel_aspect: Height of a pixel divided by its width, where the file has no spacing.
        default_grid: Whether spacing and origin are the defaults that programs write when
            none is known: 1 mm along every axis, the first voxel at the origin, no rotation.
        uneven: Positions of slices that are not evenly spaced; None where they are.
    """

    shape: tuple[int, int, int, int]
    decode: Callable[[int], np.ndarray] = field(repr=False)
    modality: str | None = None
    spacing_mm: tuple[float, float] | None = None
    frame_time_ms: float | None = None
    frame_starts_ms: tuple[float, ...] | None = field(default=None, repr=False)
    region: Box | None = None
    warnings: tuple[str, ...] = ()
    geometry: Geometry | None = None
    slice_spacing_mm: float | None = None
    unknown: tuple[int, ...] = ()
    third_axis: Literal["time", "space"] | None = None
    pixel_aspect: float | None = None
    default_grid: bool = False
    uneven: UnevenSlices | None = None

    @classmethod
    def from_array(
        cls,
        array: np.ndarray,
        *,
        affine: ArrayLike | None = None,
        space: Space | None = None,
        spacing_mm: Sequence[float] | None = None,
        modality: str | None = None,
        third_axis: Literal["time", "space"] | None = None,
    ) -> "ImageSequence":
        """Return frames or slices that are in memory already.

        Args:
            array: (H, W) or (frames, H, W); in colour (H, W, 3) or (frames, H, W, 3); or
                (frames, C, H, W). Not copied.
            affine: (4, 4), from an index (d, h, w, 1) of the slices of a scan to mm. For nibabel's
                `array.T` it is `affine[:, [2, 1, 0, 3]]`.
            space: Which space the affine is in: "LPS" or "RAS"; required with an affine.
            spacing_mm: (row, column) distance of pixels, or (slice, row, column) of a scan.
            modality: DICOM's word for the kind of image.
            third_axis: Whether frames follow in time or in space; an affine and a distance
                of slices mean space.

        Raises:
            FormatError: If the array is masked or holds no real numbers.
            GeometryError: If it has other axes, or an affine or a spacing that cannot be one; or
                if affine and space do not come together, without spacing or frames in time.

        Example:
            >>> scan = ImageSequence.from_array(np.zeros((9, 4, 5)), affine=np.eye(4), space="RAS")
            >>> scan.voxel_mm
            (1.0, 1.0, 1.0)
            >>> ImageSequence.from_array(np.zeros((480, 640, 3), np.uint8)).shape
            (1, 3, 480, 640)
        """
        slice_mm, pixel_mm = split_spacing(spacing_mm)
        stack = _stack_frames(array, is_scan=affine is not None or slice_mm is not None)
        frames, channels, height, width = stack.shape
        geometry = None
        if affine is None and space is not None:
            raise GeometryError(f'space is "{space}", but no affine is given.')
        if affine is not None:
            if space is None or third_axis == "time" or spacing_mm is not None:
                raise GeometryError(
                    'an affine is given; say which space it is in, space="LPS" (DICOM, ITK) or '
                    'space="RAS" (NIfTI, nibabel), and give none for frames in time. It holds the '
                    "spacing: leave spacing_mm out."
                )
            geometry = Geometry((frames, height, width), _read_matrix(affine), space=space)
            slice_mm, pixel_mm = _measure_grid(geometry)
        return cls(
            shape=(frames, channels, height, width),
            decode=stack.__getitem__,
            modality=modality,
            spacing_mm=pixel_mm,
            geometry=geometry,
            slice_spacing_mm=slice_mm,
            third_axis=third_axis if slice_mm is None else "space",
        )

    @property
    def has_slices(self) -> bool:
        """Whether the frames are the slices of a scan, as far as is known."""
        if len(self) < 2 or self.third_axis == "time":
            return False
        return self.third_axis == "space" or self.slice_spacing_mm is not None

    @property
    def proportions(self) -> tuple[float, float]:
        """Height and width of a pixel in mm, or relative to each other where mm are unknown."""
        return self.spacing_mm or (self.pixel_aspect or 1.0, 1.0)

    @property
    def voxel_mm(self) -> tuple[float, float, float] | None:
        """Distance of voxels along (D, H, W), the mean of uneven slices; None if one is unknown."""
        if self.spacing_mm is None or self.slice_spacing_mm is None:
            return None
        return (self.slice_spacing_mm, *self.spacing_mm)

    @property
    def unit(self) -> Literal["frame", "slice", "image"]:
        """What a frame is called: "image" if it is the only one."""
        if len(self) == 1:
            return "image"
        return "slice" if self.has_slices else "frame"

    def start_ms(self, index: int) -> float | None:
        """Return the start of a frame in ms from the first; None if unknown.

        Args:
            index: Which frame, from 0.

        Example:
            >>> ImageSequence((3, 1, 9, 9), np.zeros, frame_time_ms=40.0).start_ms(2)
            80.0
            >>> ImageSequence((3, 1, 9, 9), np.zeros, frame_starts_ms=(0.0, 30.0, 80.0)).start_ms(1)
            30.0
        """
        if self.frame_starts_ms is not None:
            return self.frame_starts_ms[index]
        return None if self.frame_time_ms is None else index * self.frame_time_ms

    def __len__(self) -> int:
        """Count the frames."""
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Decode the frames one after another, each (C, H, W)."""
        return (self.decode(index) for index in range(len(self)))


@dataclass(frozen=True)
class LabelMap:
    """Labels of every frame of a sequence, on the grid of its source.

    Attributes:
        array: (frames, height, width) uint8; 0 is background.
        spacing_mm: (row, column) distance in mm, or None if unknown.
    """

    array: np.ndarray
    spacing_mm: tuple[float, float] | None = None

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """Number of pixels of each value in each frame, (frames, 256).

        Example:
            >>> LabelMap(np.uint8([[[0, 2], [2, 2]]])).counts[0, :3].tolist()
            [1, 0, 3]
        """
        # Frame by frame, because bincount widens its input.
        return np.stack([np.bincount(frame.ravel(), minlength=256) for frame in self.array])


def _stack_frames(array: np.ndarray, *, is_scan: bool) -> np.ndarray:
    """View an array as (frames, C, H, W).

    Args:
        array: See `ImageSequence.from_array`.
        is_scan: Whether three axes are those of a scan in any case, and none of colour.

    Raises:
        FormatError: If it is masked or holds no real numbers.
        GeometryError: If it is empty or has other axes.
    """
    if np.ma.isMaskedArray(array):
        raise FormatError(
            "the image is a masked array; masks are not read. Give the values to use under the "
            "mask, such as array.filled(0)."
        )
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        kind = getattr(array, "dtype", type(array).__name__)
        raise FormatError(f"the image is of {kind}; expected an array of real numbers.")
    array = np.asarray(array)  # a matrix would stay of two axes
    axes = array.ndim
    if not 2 <= axes <= 4 or not array.size:
        raise GeometryError(
            f"the array has shape {array.shape}; expected (H, W), (frames, H, W), in colour "
            "(H, W, 3) or (frames, H, W, 3), or (frames, C, H, W), no size 0."
        )
    plane_last = (axes == 3 and is_scan) or (axes == 4 and array.shape[1] in (1, 3))
    if array.shape[-1] == 4 and axes > 2 and not plane_last:
        raise GeometryError(
            f"the array has shape {array.shape}; colour with transparency is not read: give it "
            "without, array[..., :3]."
        )
    if axes == 3 and array.shape[-1] == 1 and not is_scan:
        raise GeometryError(
            f"the array has shape {array.shape}; a grey image has no axis of channels: give it "
            "without, array[..., 0]."
        )
    if array.shape[-1] == 3 and axes > 2 and not plane_last:
        array = np.moveaxis(array, -1, -3)
    elif axes < 4:
        array = array[..., None, :, :]
    return array if array.ndim == 4 else array[None]


def _read_matrix(affine: ArrayLike) -> np.ndarray:
    """Read an affine as numbers.

    Raises:
        GeometryError: If it holds something else.
    """
    try:
        matrix = np.asarray(affine)
        if matrix.dtype.kind in "biuf":
            return matrix.astype(np.float64)
    except ValueError:  # rows of unequal lengths
        pass
    raise GeometryError(f"affine is {affine!r}; expected a 4 x 4 matrix.")


def split_spacing(
    spacing_mm: Sequence[float] | None,
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the distance of slices (or None) and that of pixels.

    Args:
        spacing_mm: (row, column) or (slice, row, column).

    Raises:
        GeometryError: If it is not two or three lengths above 0.
    """
    if spacing_mm is None:
        return None, None
    try:
        lengths = [float(length) for length in spacing_mm]
    except (TypeError, ValueError):
        lengths = []
    if len(lengths) not in (2, 3) or not all(0 < length < np.inf for length in lengths):
        raise GeometryError(
            f"spacing_mm is {spacing_mm!r}; expected (row, column) or (slice, row, column) in mm, "
            "each above 0."
        )
    *slices, row, column = lengths
    return (slices[0] if slices else None), (row, column)


def _measure_grid(geometry: Geometry) -> tuple[float, tuple[float, float]]:
    """Distance of slices, and (row, column) distance of pixels, in mm.

    Raises:
        GeometryError: If pixels are no rectangles.
    """
    check_right_angles(geometry)
    slice_mm, row_mm, column_mm = geometry.spacing_mm
    return slice_mm * geometry.slant, (row_mm, column_mm)
