from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from viscera.config import DeliverSettings, Destination
from viscera.deliver import addresses_of
from viscera.domain.jobs import Address, Job, JobKind, JobState
from viscera.domain.models import Grade
from viscera.domain.results import Decision, ResultKind, Verdict
from viscera.domain.sources import Origin

JOB = Job(
    id="1",
    key="k",
    kind=JobKind.SEGMENT,
    submission_id="s",
    origin=Origin.DICOM,
    principal="scanner",
    study_uid="1",
    series_uid="2",
    submission_version=1,
    stacks=(),
    model="m/1",
    state=JobState.RUNNING,
    parent_id=None,
    attempts=1,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
SETTINGS = DeliverSettings(
    destinations=(
        Destination(name="strict", kind="dicom", host="h"),
        Destination(name="trusting", kind="dicom", host="h", allow_unvalidated=True),
        Destination(name="disk", kind="folder", folder="/x"),  # type: ignore[arg-type]
        Destination(name="mr", kind="folder", folder="/y", from_peers=("mr1", "bot")),  # type: ignore[arg-type]
    )
)


def names_of(addresses: Sequence[Address]) -> set[str]:
    return {one.destination for one in addresses if not one.barred}


@pytest.mark.parametrize(
    ("grade", "decision", "names"),
    [
        (Grade.VALIDATED, Decision.DELIVER, {"strict", "trusting", "disk"}),
        (Grade.VALIDATED, Decision.FLAG, {"strict", "trusting", "disk"}),
        (Grade.RESEARCH, Decision.DELIVER, {"trusting", "disk"}),
        (Grade.DEMONSTRATION, Decision.FLAG, {"trusting", "disk"}),
        (Grade.VALIDATED, Decision.WITHHOLD, set()),
    ],
)
def test_who_gets_a_result(grade: Grade, decision: Decision, names: set[str]) -> None:
    addresses = addresses_of(JOB, grade, Verdict(decision), SETTINGS)
    assert names_of(addresses) == names
    assert {one.destination for one in addresses} == {"strict", "trusting", "disk"}


def test_a_barred_one_says_which_setting_would_let_it_pass() -> None:
    addresses = addresses_of(JOB, Grade.RESEARCH, Verdict(Decision.DELIVER), SETTINGS)
    (why,) = [one.barred for one in addresses if one.barred]
    assert "research" in why
    assert "allow_unvalidated" in why


def test_a_pacs_gets_objects_and_a_folder_gets_all() -> None:
    addresses = addresses_of(JOB, Grade.VALIDATED, Verdict(Decision.DELIVER), SETTINGS)
    kinds = {one.destination: set(one.kinds) for one in addresses}
    assert kinds["strict"] == {ResultKind.SEG, ResultKind.SR}
    assert kinds["disk"] == set(ResultKind)


def test_peers_are_kept_apart_and_a_client_is_asked_for_by_name() -> None:
    deliver = Verdict(Decision.DELIVER)
    from_mr = addresses_of(replace(JOB, principal="mr1"), Grade.VALIDATED, deliver, SETTINGS)
    assert "mr" in names_of(from_mr)
    client = replace(JOB, origin=Origin.GRPC, principal="somebody")
    assert addresses_of(client, Grade.VALIDATED, deliver, SETTINGS) == ()
    bot = replace(client, principal="bot")
    assert names_of(addresses_of(bot, Grade.VALIDATED, deliver, SETTINGS)) == {"mr"}
