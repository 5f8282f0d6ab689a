"""What a series says of itself and of its sender, which decides the model it is for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImageTraits:
    """What the header of an image says; empty if it does not.

    Attributes:
        modality: Such as "US".
        body_part: Body Part Examined.
        description: Series Description.
        station: Station Name.
    """

    modality: str = ""
    body_part: str = ""
    description: str = ""
    station: str = ""


@dataclass(frozen=True, kw_only=True)
class SeriesTraits(ImageTraits):
    """What is known of a series when it arrives; for a route, patterns of that.

    Attributes:
        calling_ae: AE title of the sender.
        called_ae: AE title that the sender called.
    """

    calling_ae: str = ""
    called_ae: str = ""
