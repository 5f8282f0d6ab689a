"""Parameters of a request for an image: in the query, or in fields of the form beside it."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bedside.http_api.failures import RequestError, list_faults
from bedside.http_api.formats import choose_result
from bedside.service.engine import DEADLINE_S
from bedside.service.wanted import Wanted


class Parameters(BaseModel):
    """What a request asks for; an unknown name is refused."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field("", description="Name of the model, as /models lists them. Required.")
    format: str = Field(
        "", description="Format of the result, instead of the header Accept: auto, json, "
        "dicom-seg, dicom-labelmap, nifti, seg-nrrd or png."
    )  # fmt: skip
    select: str = Field(
        "", description="Image to take from a file that holds several, counted from 1, such as "
        "time=3 or time=3,channel=1."
    )  # fmt: skip
    third_axis: Literal["auto", "time", "space"] = Field(
        "auto", description="Meaning of the third axis of NIfTI, NRRD and MetaImage; auto goes by "
        "the file and the model."
    )  # fmt: skip
    pixel_spacing: str = Field(
        "", description="Distance of pixels as ROW,COLUMN in mm, for pictures and other files "
        "without one."
    )  # fmt: skip
    gaps: Literal["refuse", "interpolate"] = Field(
        "refuse", description="Refuse a series with missing slices, or mark them as unknown."
    )
    values_are_hu: bool = Field(
        default=False, description="Take CT values as HU if the file has no rescale values."
    )
    gate: Literal["warn", "refuse"] = Field(
        "warn", description="What happens to images that look unlike those of training, if the "
        "model has a gate."
    )  # fmt: skip
    channels: str = Field(
        "", description="Names of the channels that the files sent are, in their order, such as "
        "flair,t1, for a model whose channels have names."
    )  # fmt: skip
    force: bool = Field(
        default=False, description="Accept images of another modality than the model's."
    )

    def want(self, accept: str | None, client: str) -> Wanted:
        """Return what is asked for.

        Args:
            accept: The header Accept.
            client: Name of the key.

        Raises:
            RequestError: If no model is named, or nothing can be sent in that format.
            UsageError: If the selection, the spacing or the channels have no meaning.
        """
        if not self.model:
            raise RequestError(400, "no model is named. Add ?model=NAME; /models lists them.")
        wanted = Wanted(
            self.model, choose_result(self.format or None, accept), self.third_axis, self.gaps,
            self.force, client, self.select, self.pixel_spacing, self.values_are_hu, self.gate,
            self.channels,
        )  # fmt: skip
        _ = wanted.read, wanted.channel_names  # refuses what has no meaning
        return wanted

    def complete(self, fields: Mapping[str, str]) -> Self:
        """Return these with those of a form.

        Raises:
            RequestError: If one is unknown or has no meaning, or both name different values.
        """
        try:
            stated = type(self).model_validate(dict(fields))
        except ValidationError as error:
            raise RequestError(
                400, f"the form is refused: {list_faults(error.errors())}."
            ) from None
        both = self.model_fields_set & stated.model_fields_set
        differing = [name for name in sorted(both) if getattr(self, name) != getattr(stated, name)]
        if differing:
            raise RequestError(
                400, f"{differing[0]} is one thing in the query and another in the form. State it "
                "once.",
            )  # fmt: skip
        given = {name: getattr(stated, name) for name in stated.model_fields_set}
        return self.model_copy(update=given)


class TimedParameters(Parameters):
    """Parameters of a request that is answered at once."""

    deadline_s: float = Field(
        DEADLINE_S, gt=0, le=DEADLINE_S, description="Seconds after which the work is given up."
    )


def describe_body(parameters: type[Parameters]) -> dict[str, Any]:
    """Return the body of a request with an image, for OpenAPI."""
    properties = parameters.model_json_schema()["properties"]
    file = {"type": "string", "format": "binary", "description": "An image, or a zip of a series; "
            "several for the files of a series."}  # fmt: skip
    form = {"type": "object", "required": ["file"], "properties": {"file": file, **properties}}
    octets = {"schema": {"type": "string", "format": "binary"}}
    content = {"multipart/form-data": {"schema": form}, "application/octet-stream": octets}
    return {"requestBody": {"required": True, "content": content}}
