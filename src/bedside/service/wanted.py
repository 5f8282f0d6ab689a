"""What a request wants done with one image, and its result in the words of a service."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bedside.errors import ModalityError, UsageError
from bedside.io.dicom.options import DicomOptions
from bedside.io.read_options import ReadOptions
from bedside.io.select import parse_selection
from bedside.report.record import report_mapping, to_json
from bedside.result import Result


@dataclass(frozen=True)
class Wanted:
    """What a request asks for, with the meanings of the options of `bedside segment`.

    Attributes:
        model: Name of the model.
        result: Format of labels, "auto" for that of the image, or "json" for the report alone.
        third_axis: As in `ReadOptions`.
        gaps: As in `DicomOptions`.
        force: Accept images of another modality than the model's, or refused by its gate.
        client: Name of the key that may see it.
        select: Image of a file that holds several, such as "time=3,channel=1".
        pixel_spacing: "ROW,COLUMN" in mm for images without one; empty to go by the file.
        values_are_hu: As in `DicomOptions`.
        gate: Whether an image that the model's gate finds foreign is refused: "warn" or "refuse".
        channels: Names of the channels that the files are, in the order in which they were sent,
            such as "flair,t1"; empty if the files are one image.
    """

    model: str
    result: str
    third_axis: Literal["auto", "time", "space"] = "auto"
    gaps: Literal["refuse", "interpolate"] = "refuse"
    force: bool = False
    client: str = ""
    select: str = ""
    pixel_spacing: str = ""
    values_are_hu: bool = False
    gate: Literal["warn", "refuse"] = "warn"
    channels: str = ""

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels, one for each file; empty if the files are one image.

        Raises:
            UsageError: If one is empty or occurs twice.
        """
        names = tuple(name.strip() for name in self.channels.split(",")) if self.channels else ()
        if not all(names) or len(set(names)) < len(names):
            raise UsageError("channels are names as flair,t1, each once, in the order of files.")
        return names

    def check_files(self, count: int) -> None:
        """Return if there is a file for each channel.

        Args:
            count: Files that were sent one by one; 0 for a zip, whose order means nothing.

        Raises:
            UsageError: If there are more or fewer.
        """
        names = self.channel_names
        if names and count != len(names):
            raise UsageError(
                f"channels names {len(names)}, and {count} files were sent. Send a file for each "
                "in a field of its own, and no zip."
            )

    @property
    def read(self) -> ReadOptions:
        """How the image is opened.

        Raises:
            UsageError: If the selection or the spacing has no meaning.
        """
        words = [word.strip() for word in self.select.split(",") if word.strip()]
        return ReadOptions(
            tuple(parse_selection(words).items()),
            dicom=DicomOptions(gaps=self.gaps, values_are_hu=self.values_are_hu),
            third_axis=self.third_axis,
            pixel_spacing_mm=_parse_spacing(self.pixel_spacing),
        )

    @classmethod
    def from_mapping(cls, stored: Mapping[str, Any]) -> "Wanted":
        """Return what was stored, perhaps by an earlier version that knew less of it."""
        known = cls.__dataclass_fields__
        return cls(**{name: value for name, value in stored.items() if name in known})

    def check_gate(self, result: Result) -> None:
        """Refuse the result of a foreign image, if that is wanted.

        Raises:
            ModalityError: If the gate of the model finds it foreign.
        """
        verdict = describe_gate(result)
        if self.gate == "refuse" and not self.force and verdict and verdict["is_foreign"]:
            raise ModalityError(
                "the image looks unlike those that the model was trained on: it is "
                f"{verdict['distance']:.1f} from them, and at most {verdict['threshold']:.1f} is "
                "accepted. Pass gate=warn to segment it all the same."
            )


def describe_gate(result: Result) -> dict[str, Any] | None:
    """Return how far an image is from those of training; None for a model without a gate."""
    verdict, gate = result.segmentation.gate, result.bundle.gate
    if verdict is None or gate is None:
        return None
    return {
        "distance": round(verdict.distance, 3),
        "threshold": round(gate.threshold, 3),
        "is_foreign": verdict.distance > gate.threshold,
    }


def write_report(result: Result) -> str:
    """Return the report as JSON, in the words of a service, with the verdict of the gate."""
    report = dict(report_mapping(result.report))
    report["warnings"] = [in_service_words(text) for text in report["warnings"]]
    return to_json({**report, "gate": describe_gate(result)})


_SENTENCES = {
    "If you trust it, raise --untrusted-mb and --max-ram, or leave --untrusted out.":
        "Send a smaller image, or raise decode_mb of the server.",
    "If you trust it, raise --untrusted-s, or leave --untrusted out.":
        "Send a smaller image, or raise decode_s of the server.",
    ", after the names of images.": ".",
}  # fmt: skip
_SELECTION = re.compile(r"--select ((?:[a-z]+=\w+[ ,]?)+)")
_CHOICE = re.compile(r'--(format|gaps|gate|third-axis) "?([a-z][a-z-]*)"?')
_FLAG = re.compile(r"--(force|values-are-hu)\b")
_OPTION = re.compile(r"--([a-z][a-z-]*)")


def in_service_words(text: str) -> str:
    """Return an error or a warning with parameters of a request for the options of a command.

    Example:
        >>> in_service_words("Choose another bundle, or pass --force.")
        'Choose another bundle, or pass force=true.'
    """
    for said, meant in _SENTENCES.items():
        text = text.replace(said, meant)
    text = _SELECTION.sub(lambda found: _join(found[1]), text)
    text = _CHOICE.sub(lambda found: f"{_name(found[1])}={found[2]}", text)
    text = _FLAG.sub(lambda found: f"{_name(found[1])}=true", text)
    return _OPTION.sub(lambda found: _name(found[1]), text)


def _join(words: str) -> str:
    """Return "select=time=N,channel=N" for "time=N channel=N, "."""
    found = re.findall(r"[a-z]+=\w+", words)
    return f"select={','.join(found)}{words[len(words.rstrip(' ,')) :]}"


def _name(option: str) -> str:
    return option.replace("-", "_")


def _parse_spacing(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError("pixel_spacing is not ROW,COLUMN in mm, such as 0.2,0.2.") from error
    return row, column
