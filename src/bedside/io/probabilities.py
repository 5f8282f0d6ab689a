"""Class probabilities written beside labels: NIfTI of four axes, or an .npz archive of numpy's."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bedside.io.labels import compressed
from bedside.io.opened import Source
from bedside.system.atomic import written_atomically
from bedside.volume import LabelMap

# Probabilities are mostly 0 or 1: higher levels take longer and save little.
_LEVEL = 1


def write_probabilities(
    probabilities: np.ndarray, labels: LabelMap, source: Source, folder: Path, *,
    names: Sequence[str], as_nifti: bool,
) -> Path:  # fmt: skip
    """Write `probabilities.nii.gz`, (x, y, z, class), or `probabilities.npz`.

    The archive has `probabilities`, (class, frame, row, column) float32, and `names` of the
    classes. The same probabilities give the same bytes.

    Args:
        probabilities: (K, frames, H, W) float32, the background first; or (K, H, W) of one plane.
        labels: The labels of the same image.
        source: The segmented image.
        folder: Where the file goes.
        names: Of the classes, the background first.
        as_nifti: Whether NIfTI is written.

    Raises:
        OutputError: If it cannot be written.
    """
    probabilities = probabilities.reshape(len(probabilities), *labels.array.shape)
    target = folder / ("probabilities.nii.gz" if as_nifti else "probabilities.npz")
    with written_atomically(target) as temporary, temporary.open("wb") as file:
        if as_nifti:
            from bedside.io.nifti.labels import encode_probabilities

            with compressed(file, target.name) as packed:
                encode_probabilities(probabilities, labels, source, packed)
            return target
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            for name, array in (("probabilities", probabilities), ("names", np.array(names))):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(array))
    return target
