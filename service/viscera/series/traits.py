"""By what the images at one position of a series may differ: phases, echoes, b-values ..."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trait:
    """One attribute that can tell apart volumes which share a series."""

    name: str
    """For people: ``told apart by echo time``."""
    places: tuple[tuple[str, str], ...]
    """(functional group macro, keyword), tried in order; an empty macro is the data set itself."""


TRAITS: tuple[Trait, ...] = (
    Trait(
        "temporal position",
        (("FrameContentSequence", "TemporalPositionIndex"), ("", "TemporalPositionIdentifier")),
    ),
    Trait("echo number", (("", "EchoNumbers"),)),
    Trait("echo time", (("MREchoSequence", "EffectiveEchoTime"), ("", "EchoTime"))),
    Trait("inversion time", (("", "InversionTime"),)),
    Trait("b-value", (("MRDiffusionSequence", "DiffusionBValue"), ("", "DiffusionBValue"))),
    Trait("diffusion gradient", (("", "DiffusionGradientOrientation"),)),
    Trait(
        "cardiac phase",
        (
            ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
            ("", "NominalPercentageOfCardiacPhase"),
        ),
    ),
    Trait(
        "trigger time",
        (
            ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
            ("", "TriggerTime"),
        ),
    ),
    Trait(
        "image type",
        (
            ("CTImageFrameTypeSequence", "FrameType"),
            ("MRImageFrameTypeSequence", "FrameType"),
            ("", "ImageType"),
        ),
    ),
    Trait("kernel", (("CTReconstructionSequence", "ConvolutionKernel"), ("", "ConvolutionKernel"))),
    Trait("tube voltage", (("CTXRayDetailsSequence", "KVP"), ("", "KVP"))),
    Trait("stack", (("FrameContentSequence", "StackID"),)),
    Trait("multi-frame object", ()),  # its SOP Instance UID: headers.py fills it in
    Trait(
        "acquisition",
        (("FrameContentSequence", "FrameAcquisitionNumber"), ("", "AcquisitionNumber")),
    ),
)
"""Tried in this order, and only where positions collide. AcquisitionNumber comes last: real
volumes hold many."""
