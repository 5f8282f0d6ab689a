"""What the node writes for one image: a SEG, and an SR where it is wanted."""

from pathlib import Path

from bedside.report.results import write_measurements
from bedside.result import Result


def write_seg_and_sr(result: Result, folder: Path, *, with_sr: bool) -> None:
    """Write the SEG of an image, and the SR of a trained model, to a new folder.

    Both follow from the image and the bundle alone, to the byte.

    Args:
        result: Of the image.
        folder: Made here.
        with_sr: Write the SR too.
    """
    folder.mkdir()
    (folder / "segmentation.dcm").write_bytes(result.to_bytes("dicom-seg", moment="source"))
    if with_sr and not result.bundle.card.untrained:
        write_measurements(result, result.report, folder, moment="source")
