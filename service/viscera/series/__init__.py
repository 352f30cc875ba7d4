"""From instances to stacks: when a series is closed, what it holds, and what becomes of it.

In: when instances arrived (`closing`), then the files of one submission (`assembly`) and the
operator's rules (`rules`). Out: a time to close; stacks with their affine, and a line for
`viscera why` about each stack, refused group and ignored frame. Fails: with a class under
`UnusableSeries` or `RejectedInstance`; a bad stack does not spoil its neighbour, while mixed
patients, conflicting instances or unreadable headers refuse the whole series.

Pixels are never decoded here. ::

    part10, elements            bytes of a file -> data set, values
    functional_groups, traits   where multi-frame objects keep them; what tells volumes apart
    planes, image_types         checked geometry; what is no slice
    headers                     -> Header, Slice
    identity                    -> one series, each instance once
    ordering, grouping, stacks  -> Stack or a named refusal
    assembly, rules, closing    what the other rooms call
"""

from viscera.series.assembly import Assembly, Ignored, assemble, examine, restack
from viscera.series.closing import close_after
from viscera.series.headers import read_header
from viscera.series.part10 import is_part10
from viscera.series.rules import Chosen, channel_of, choose
from viscera.series.stacks import Refused

__all__ = [
    "Assembly",
    "Chosen",
    "Ignored",
    "Refused",
    "assemble",
    "channel_of",
    "choose",
    "close_after",
    "examine",
    "is_part10",
    "read_header",
    "restack",
]
