"""The images of a series or a work item, segmented one by one and written as SEG and SR."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedside.dicom_node.results import write_seg_and_sr
from bedside.errors import BusyError, InputError, KilledError
from bedside.io.opened import Source
from bedside.io.read_options import ReadOptions
from bedside.service.engine import Engine


@dataclass(frozen=True)
class Outcome:
    """What became of the images.

    Attributes:
        images: How many there were.
        refused: How many of them were refused.
        skipped: How many files are no images.
    """

    images: int
    refused: int
    skipped: int


def segment_images(
    engine: Engine,
    model: str,
    folders: Sequence[Path],
    outputs: Path,
    *,
    with_sr: bool,
    on_busy: Callable[[], None],
    report: Callable[[float], None] = lambda part: None,
) -> Outcome:
    """Segment each image, and write its results to a folder with its number.

    SEG and SR follow from the images and the bundle alone, so what is done again after a kill gives
    the same files.

    Args:
        engine: What segments.
        model: Name of the model.
        folders: Where the images are.
        outputs: Where results go; it exists.
        with_sr: Write a DICOM SR of trained models too.
        on_busy: Waits a moment while the server has no room; what it raises ends the work.
        report: Called with the part done; what it raises ends the work.

    Raises:
        InputError: If no image can be segmented.
    """
    read = ReadOptions(untrusted=engine.decoding)
    found = [read.find(folder) for folder in folders]
    images = [(path, each.files.get(path, ())) for each in found for path in each.paths]
    refused: list[InputError] = []
    for number, (path, files) in enumerate(images, start=1):
        report((number - 1) / len(images))
        place = outputs / f"{number}"
        try:
            source = _open(read, path, files)
            part = _part_of(report, number - 1, len(images), frames=len(source.sequence))
            while True:
                try:
                    result = engine.segment(model, source, on_frame=part)
                    break
                except BusyError:
                    part(0)
                    on_busy()
            write_seg_and_sr(result, place, with_sr=with_sr)
        except InputError as error:
            refused.append(error)
            shutil.rmtree(place, ignore_errors=True)
    if len(refused) == len(images):
        raise refused[0] if refused else InputError("there is no image to segment.")
    return Outcome(len(images), len(refused), sum(len(each.skipped) for each in found))


def _open(read: ReadOptions, path: Path, files: Sequence[Path]) -> Source:
    """Open an image; once more if the process that decodes it was killed, as by a full memory."""
    try:
        return read.open(path, files=files)
    except KilledError:
        return read.open(path, files=files)


def _part_of(
    report: Callable[[float], None], number: int, images: int, *, frames: int
) -> Callable[[int], None]:
    """Return what reports the frames of one of several images as a part of the whole."""

    def on_frame(done: int) -> None:
        report((number + min(done / max(frames, 1), 1.0)) / images)

    return on_frame
