"""Every oddity ends as docs/oddities.md says: exactly what was scanned, or a named refusal."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from oddities.case import Case, plain, write
from oddities.cases import CASES
from oddities.judge import Built, Scanned, judge
from oddities.ours import viscera
from oddities.table import committed, escaped
from viscera.config import DecodeSettings
from viscera.volume import DecodePool


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecodePool]:
    with DecodePool(DecodeSettings(processes=1)) as pool:
        yield pool


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_viscera_is_right_or_refuses_by_name(
    case: Case, decoders: DecodePool, tmp_path: Path
) -> None:
    files = case.make()
    write(files, tmp_path)
    outcome = viscera(tmp_path, files.scanned, files.never, decoders)
    assert outcome.verdict == ("right" if case.usable else "refused"), outcome.text
    for word in case.names:
        assert word in outcome.text
    assert escaped(outcome.text) == committed()[case.name], "run `make oddities`"


def test_the_page_has_a_row_for_every_case_and_no_other() -> None:
    assert list(committed()) == [case.name for case in CASES]


def built_of(truth: Scanned) -> Built:
    """Return the volume as a proper program builds it."""
    affine = np.eye(4)
    affine[:3, 0] = truth.positions_lps[1] - truth.positions_lps[0]
    affine[:3, 1], affine[:3, 2] = truth.down_column, truth.along_row
    affine[:3, 3] = truth.positions_lps[0]
    return Built(voxels=truth.voxels, affine_lps=affine)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_judge_sees_a_mirror_a_shift_and_one_wrong_voxel(axis: int) -> None:
    """Who judges everybody is judged here: a table of `right` would prove nothing otherwise."""
    (truth,) = plain().scanned
    good = built_of(truth)
    assert judge([good], [truth]).verdict == "right"
    turned = Built(voxels=good.voxels.T, affine_lps=good.affine_lps[:, [2, 1, 0, 3]])
    assert judge([turned], [truth]).verdict == "right"
    mirrored = Built(voxels=np.flip(good.voxels, axis), affine_lps=good.affine_lps)
    assert judge([mirrored], [truth]).verdict == "wrong"
    moved = good.affine_lps.copy()
    moved[axis, 3] += 0.3
    assert judge([Built(voxels=good.voxels, affine_lps=moved)], [truth]).verdict == "wrong"
    spotted = good.voxels.copy()
    spotted[3, 4, 5] += 1
    outcome = judge([Built(voxels=spotted, affine_lps=good.affine_lps)], [truth])
    assert outcome.text == "wrong: 99% of voxels right"


def test_the_judge_counts_volumes_and_invented_slices() -> None:
    (truth,) = plain().scanned
    good = built_of(truth)
    longer = np.concatenate([good.voxels, good.voxels[-1:]])
    invented = Built(voxels=longer, affine_lps=good.affine_lps)
    assert judge([invented], [truth]).text == "wrong: slices invented"
    assert judge([good, good], [truth]).text == "wrong: 2 volumes where 1 was scanned"
    assert judge([good], [truth], never="two patients").text == "wrong: 1 volume of two patients"
