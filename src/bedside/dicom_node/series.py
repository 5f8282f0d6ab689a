"""A series as the store of jobs keeps it: its states, and what its payload says.

    received    images come in
    complete    all are there; it waits for segmentation, or is being segmented
    segmented   its results are written
    sent        all destinations have answered that they stored them
    confirmed   all destinations were asked, and have them
    failed      it has no results, or they cannot be sent; the reason says why

A job of kind `KIND` is a round of a series. Images that come after it was segmented begin another.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from bedside.dicom_node.traits import SeriesTraits

KIND = "series"
"""The kind of jobs that are series."""

RECEIVED, COMPLETE, SEGMENTED = "received", "complete", "segmented"
SENT, CONFIRMED, FAILED = "sent", "confirmed", "failed"
STATES = (RECEIVED, COMPLETE, SEGMENTED, SENT, CONFIRMED, FAILED)

IMAGES, RESULTS = "images", "results"
"""Folders in the folder of a job."""


@dataclass(frozen=True)
class Series(SeriesTraits):
    """The payload of a job; what its first image says, and who sent that.

    Attributes:
        study_instance_uid: Of its study.
        series_instance_uid: Its own.
        round: 1, or how often images came after the series was taken as complete.
        earlier: Id of the job of the round before; empty for the first.
        boot: Which start of the machine its images came in, if they are lost with it; else empty.
        images: How many images it has; 0 while it is received.
        are_whole: Whether each image has several frames, and so is an image by itself.
        model: Model that segmented it.
        results: Files in the folder of the job, such as "results/1/segmentation.dcm".
    """

    study_instance_uid: str = ""
    series_instance_uid: str = ""
    round: int = 1
    earlier: str = ""
    boot: str = ""
    images: int = 0
    are_whole: bool = False
    model: str = ""
    results: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The key of its job."""
        return series_key(self.series_instance_uid, self.round)

    def to_payload(self) -> dict[str, Any]:
        """The payload of its job."""
        return asdict(self)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> "Series":
        """Return the series of a job's payload; keys of later versions are left out."""
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in payload.items() if name in known}
        return cls(**{**values, "results": tuple(values.get("results", ()))})


def series_key(series_instance_uid: str, round_: int) -> str:
    """Return the key of the job of a round of a series."""
    return f"{series_instance_uid}#{round_}"
