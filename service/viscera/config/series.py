"""When series close, which of them are segmented, and as what."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from viscera.config.section import Section, Slug


class _Recognised(Section):
    """How a series is recognised."""

    modality: tuple[str, ...] = Field((), description="Any of these; empty: all.")
    description: str = Field("", description="Regular expression on SeriesDescription; empty: all.")
    body_part: str = Field("", description="Regular expression on BodyPartExamined; empty: all.")

    @field_validator("description", "body_part")
    @classmethod
    def _is_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern


class ChannelRule(_Recognised):
    """How the series of one channel is recognised; the first that matches decides."""

    channel: str = Field(min_length=1, description="As the model names it.")


class SeriesRule(_Recognised):
    """One rule; the first that matches decides."""

    name: Slug = Field(description="Shown by `viscera why`.")
    min_slices: int = Field(0, ge=0, description="Fewest slices.")
    max_slice_spacing_mm: float = Field(1e3, gt=0, description="Widest spacing between slices.")
    then: Literal["segment", "ignore"] = Field("segment", description="What to do.")
    model: str = Field("", description="`name` or `name/version`; empty: the default model.")
    channels: tuple[ChannelRule, ...] = Field(
        (),
        description="For a model of several channels: which series of one study is which. The rule "
        "then matches series that one of them matches, and its job waits for all.",
    )

    @model_validator(mode="after")
    def _names_channels_once(self) -> Self:
        names = [one.channel for one in self.channels]
        if len(set(names)) != len(names) or len(names) == 1:
            raise ValueError("channels must be at least two, and none named twice")
        if names and self.then == "ignore":
            raise ValueError("a rule that ignores has no channels")
        return self


class SeriesSettings(Section):
    """Closing, stacking and choosing."""

    quiet_s: float = Field(
        30.0, gt=0, description="Silence of a peer after which its series closes."
    )
    quiet_released_factor: float = Field(
        0.5, gt=0, le=1, description="Times quiet_s once the peer has released all associations."
    )
    quiet_gap_free_factor: float = Field(
        0.5, gt=0, le=1, description="Times quiet_s once positions have no gap."
    )
    quiet_min_s: float = Field(
        7.5, gt=0, description="Below this no factor shortens quiet_s: peers pause for seconds."
    )
    quiet_max_s: float = Field(
        600.0, gt=0, description="Longest quiet period that slow arrival can stretch to."
    )
    min_slices: int = Field(
        8, ge=1, description="Fewer slices than this are refused as incomplete."
    )
    spacing_tolerance: float = Field(
        0.02, gt=0, lt=0.5, description="Unevenness of gaps, as share of the spacing."
    )
    max_tilt_degrees: float = Field(
        5.0, ge=0, le=45, description="Gantry tilt up to which a stack keeps its geometry."
    )
    max_voxels: int = Field(
        1 << 30, ge=1, description="Rows x columns x slices above which a series is refused."
    )
    rules: tuple[SeriesRule, ...] = Field(
        (), description="First match decides; none: every stack is segmented."
    )
