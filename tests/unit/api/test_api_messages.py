from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import pytest
from api_fakes import NOW, make_job

from viscera.api import messages
from viscera.api.v1 import viscera_pb2 as pb
from viscera.domain.jobs import JobState
from viscera.domain.models import Grade, Model
from viscera.domain.organs import AMOS
from viscera.domain.results import Decision, ResultFile, ResultKind, Verdict
from viscera.errors import InvalidRequest


@pytest.mark.parametrize(
    ("domain", "proto", "table", "not_sent", "unmatched"),
    [
        (JobState, pb.JobState, messages.JOB_STATES, set(), {"JOB_STATE_PENDING"}),
        (Decision, pb.Decision, messages.DECISIONS, set(), set()),
        (Grade, pb.Grade, messages.GRADES, set(), set()),
        (ResultKind, pb.ResultKind, messages.RESULT_KINDS, {ResultKind.LABELS}, set()),
    ],
)
def test_every_word_has_its_namesake(
    domain: type[StrEnum],
    proto: pb.JobState,
    table: Mapping[StrEnum, int],
    not_sent: set[StrEnum],
    unmatched: set[str],
) -> None:
    assert set(table) == set(domain) - not_sent
    for word, value in table.items():
        assert proto.Name(value).endswith(f"_{word.name}")
    silent = {name for name, value in proto.items() if value not in table.values()}
    assert {name for name in silent if not name.endswith("_UNSPECIFIED")} == unmatched


def test_only_states_that_a_job_can_be_in_are_asked_for() -> None:
    assert messages.job_state(pb.JOB_STATE_DONE) is JobState.DONE
    for value in (pb.JOB_STATE_UNSPECIFIED, pb.JOB_STATE_PENDING, 99):
        with pytest.raises(InvalidRequest):
            messages.job_state(value)


def test_only_known_kinds_are_fetched() -> None:
    assert messages.result_kind(pb.RESULT_KIND_SR) is ResultKind.SR
    for value in (pb.RESULT_KIND_UNSPECIFIED, 99):
        with pytest.raises(InvalidRequest, match="SEG, SR, QC, VOLUMES"):
            messages.result_kind(value)


def test_a_job_says_what_the_row_says() -> None:
    files = tuple(
        ResultFile(kind=kind, path=Path("j/1/f"), sha256="ab", size_bytes=7, sop_uid="1.2")
        for kind in (ResultKind.VOLUMES, ResultKind.LABELS, ResultKind.SEG)
    )
    job = replace(
        make_job(),
        state=JobState.DONE,
        finished_at=NOW + timedelta(milliseconds=1500),
        verdict=Verdict(Decision.FLAG, ("liver is cut",)),
        results=files,
        engine="onnx-cpu",
    )
    message = messages.job_message(job)
    assert (message.id, message.submission_id, message.frames) == ("job", "upload", 2)
    assert message.finished_at.ToMilliseconds() - message.created_at.ToMilliseconds() == 1500
    assert (message.verdict.decision, list(message.verdict.reasons)) == (
        pb.DECISION_FLAG,
        ["liver is cut"],
    )
    assert [r.kind for r in message.results] == [pb.RESULT_KIND_SEG, pb.RESULT_KIND_VOLUMES]
    assert not message.HasField("error")


def test_a_job_that_has_not_ended_has_no_end() -> None:
    message = messages.job_message(make_job())
    assert not any(message.HasField(name) for name in ("finished_at", "error", "verdict"))


def test_a_model_shows_its_organs_with_codes() -> None:
    model = Model(
        name="band",
        version="1",
        grade=Grade.RESEARCH,
        digest="ab",
        folder=Path(),
        onnx=Path(),
        onnx_sha256="",
        golden=Path(),
        labels=AMOS,
        modalities=("CT",),
        axes="SPL",
        spacing_mm=None,
        normalisation={},
        patch_size=(1, 1, 1),
    )
    message = messages.model_message(model)
    assert [organ.value for organ in message.organs] == list(range(1, 16))
    kidney = message.organs[1]
    assert (kidney.title, kidney.type.value, kidney.laterality.meaning) == (
        "Right kidney",
        "64033007",
        "Right",
    )
    assert not message.organs[5].HasField("laterality")
    assert list(message.spacing_mm) == []
