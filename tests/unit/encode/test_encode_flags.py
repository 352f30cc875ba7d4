"""Each flag stands in volumes.json, in the report, on the picture and in the verdict."""

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from encode_series import SHAPE, write_single_frames
from encode_stacks import context, model, stack_of, volume_of
from PIL import Image

from viscera.domain.models import VerdictPolicy
from viscera.domain.results import Decision, FlagKind, Removal, ResultKind
from viscera.encode import write_results
from viscera.measure import judge, measure

AMBER = (255, 191, 64)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write a result of which three organs are flagged, and one of the same without flags."""
    folder = tmp_path_factory.mktemp("flags")
    stack = stack_of(write_single_frames(folder))
    volume = volume_of(stack)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:8, 4:16, 4:9] = 2  # columns grow to the patient's left: a right kidney, tiny
    labels[2:8, 4:16, 15:20] = 3
    labels[3:6, 6:9, 11:13] = 10
    ours = replace(model(), verdict=VerdictPolicy(anchors=("pancreas",), min_anchors=0))
    removal = Removal(name="pancreas", apart_voxels=2000)
    paths = {}
    for name, one in (("flagged", ours), ("plain", model())):
        rows = measure(labels, volume, one, (removal,))
        files = write_results(
            labels=labels, volume=volume, stack=stack, measurements=rows,
            verdict=judge(rows, volume, one), context=context(), folder=folder / name / "1",
            root=folder,
        )  # fmt: skip
        paths[name] = {file.kind: folder / file.path for file in files}
    return paths, rows_by_name(measure(labels, volume, ours, (removal,)))


def rows_by_name(rows):
    return {row.label.name: row for row in rows}


def texts_of(path) -> list[str]:
    """Return every text of a report, by pydicom alone."""
    return [element.value for element in pydicom.dcmread(path).iterall() if element.VR == "UT"]


def amber(path) -> np.ndarray:
    """Return the amber pixels of the legend, which lies right of both panels."""
    image = np.asarray(Image.open(path))
    legend = image[:430, 1300:]
    return np.argwhere((legend == AMBER).all(axis=2))


def test_three_organs_are_flagged(written):
    _, rows = written
    kinds = {name: [f.kind for f in row.flags] for name, row in rows.items() if row.flags}
    impossible = FlagKind.VOLUME_IMPOSSIBLE
    assert kinds == {
        "right kidney": [impossible],
        "left kidney": [impossible],
        "pancreas": [impossible, FlagKind.REMOVED],
    }


def test_numbers_for_programs(written):
    paths, rows = written
    tree = json.loads(paths["flagged"][ResultKind.VOLUMES].read_text())
    told = {one["name"]: one["flags"] for one in tree["organs"]}
    for name, row in rows.items():
        assert told[name] == [{"kind": str(f.kind), "text": f.text} for f in row.flags]
    assert tree["verdict"]["decision"] == Decision.FLAG
    flags = {flag["text"] for one in told.values() for flag in one}
    assert flags == set(tree["verdict"]["reasons"])
    plain = json.loads(paths["plain"][ResultKind.VOLUMES].read_text())
    assert not any(one["flags"] for one in plain["organs"])
    assert plain["verdict"] == {"decision": "deliver", "reasons": []}


def test_report(written):
    paths, rows = written
    texts = texts_of(paths["flagged"][ResultKind.SR])
    for row in rows.values():
        for flag in row.flags:
            # At the organ, after what is known of it, and among the verdict's reasons.
            assert [flag.text in text for text in texts].count(True) == 2
            assert flag.text in texts
    assert not any("thought possible" in text for text in texts_of(paths["plain"][ResultKind.SR]))


def test_picture(written):
    paths, _ = written
    assert len(amber(paths["plain"][ResultKind.QC])) == 0
    lines = {int(y - 56) // 24 for y in amber(paths["flagged"][ResultKind.QC])[:, 0]}
    assert lines == {2, 3, 10}  # the legend's first line is its heading
