"""Which images of a series are no slices of the patient: localisers, projections, reformats."""

_NO_SLICE = {
    "LOCALIZER": "localiser",
    "SCOUT": "localiser",
    "MIP": "projection",
    "MAX_IP": "projection",
    "MIN_IP": "projection",
    "MINIP": "projection",
    "MNIP": "projection",
    "PROJECTION IMAGE": "projection",
    "VRT": "rendering",
    "VOLUME_RENDER": "rendering",
    "SURFACE_RENDER": "rendering",
    "SCREEN SAVE": "screen shot",
    "CURVED_MPR": "curved reformat",
}
"""Values 3 and on of ImageType or FrameType, and Volume Based Calculation Technique."""

_REFORMATS = frozenset(("SECONDARY", "REFORMATTED", "MPR", "CSA MPR", "RESAMPLED"))


def no_slice(image_type: tuple[str, ...], technique: tuple[str, ...] = ()) -> str:
    """Return why an image is no slice that can be stacked; empty where it may be one.

    Parameters
    ----------
    image_type
        ImageType (0008,0008), or FrameType (0008,9007) of an enhanced frame.
    technique
        VolumeBasedCalculationTechnique (0008,9207).

    References
    ----------
    DICOM PS3.3 C.7.6.1.1.2, C.8.2.1.1.1 and C.8.16.2.1.
    """
    words = (*image_type[2:], *technique)
    return next((_NO_SLICE[word] for word in words if word in _NO_SLICE), "")


def is_original(image_type: tuple[str, ...]) -> bool:
    """Whether the scanner reconstructed it from what it measured."""
    return image_type[:1] == ("ORIGINAL",)


def is_reformat(image_type: tuple[str, ...]) -> bool:
    """Whether it was computed from other images.

    A lossily compressed slice is DERIVED too, and remains one; a whole series of reformats is a
    volume. Only beside originals, in one series, are reformats left out.
    """
    return image_type[:1] == ("DERIVED",) and not _REFORMATS.isdisjoint(image_type[1:])
