"""Multi-frame functional groups: for each frame its own macros, then those of all frames."""

from collections.abc import Iterator
from dataclasses import dataclass

from viscera.errors import DatasetMismatch
from viscera.series.elements import Elements

_MAX_FRAMES = 1 << 16


@dataclass(frozen=True, slots=True)
class FrameView:
    """Where one frame of a multi-frame object keeps its attributes (PS3.3 C.7.6.16)."""

    own: Elements
    shared: Elements | None
    whole: Elements

    def find(self, macro: str, keyword: str) -> Elements | None:
        """Return the item that holds `keyword`: in `macro`, or among what was converted.

        Legacy converted objects keep what had no macro in the Unassigned sequences. Without a
        macro the data set itself is the last place.
        """
        if macro:
            return self._item(macro, keyword)
        for sequence in (
            "UnassignedPerFrameConvertedAttributesSequence",
            "UnassignedSharedConvertedAttributesSequence",
        ):
            found = self._item(sequence, keyword)
            if found is not None:
                return found
        return self.whole

    def _item(self, macro: str, keyword: str) -> Elements | None:
        for group in (self.own, self.shared):
            items = group.items(macro) if group else ()
            if items and items[0].raw(keyword):
                return items[0]
        return None


def frame_views(elements: Elements) -> Iterator[FrameView]:
    """Yield a view for each frame of a multi-frame object, in order.

    Raises
    ------
    DatasetMismatch
        If NumberOfFrames and the functional groups disagree.
    """
    shared = elements.items("SharedFunctionalGroupsSequence")
    frames = elements.items("PerFrameFunctionalGroupsSequence")
    said = elements.whole("NumberOfFrames")
    if not frames or len(frames) != said or said > _MAX_FRAMES:
        raise DatasetMismatch(
            f"{elements.who} is multi-frame with functional groups for {len(frames)} frames, "
            f"but NumberOfFrames says otherwise: send it again"
        )
    for own in frames:
        yield FrameView(own, shared[0] if shared else None, elements)
