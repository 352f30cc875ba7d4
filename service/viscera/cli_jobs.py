"""`viscera jobs ...` and `viscera why`: what the command line asks of the job store."""

import argparse

from viscera.cli_parts import Commands, counted, nothing
from viscera.config import Settings
from viscera.errors import InvalidRequest


def add(commands: Commands) -> None:
    """Add them to the parser."""
    jobs = commands.add_parser("jobs", help="look at jobs, or run one again")
    actions = jobs.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="newest first")
    listing.add_argument("--limit", type=counted, default=50, help="how many (default: 50)")
    listing.add_argument(
        "--state", action="append", default=[], metavar="STATE", help="only these; may repeat"
    )
    listing.set_defaults(command=_jobs_list)
    show = actions.add_parser("show", help="one job with its results and deliveries")
    show.add_argument("job_id", metavar="JOB")
    show.set_defaults(command=_jobs_show)
    retry = actions.add_parser(
        "retry", help="queue a job again that ended badly, or whose result files are lost"
    )
    retry.add_argument("job_id", metavar="JOB")
    retry.set_defaults(command=_jobs_retry)
    deliver = actions.add_parser(
        "deliver",
        help="send a done job's result again",
        description="Sends what was barred, failed or delivered before once more, by the settings "
        "of today. A result that the verdict withheld has no SEG and no report: only a folder "
        "takes its picture and volumes.",
    )
    deliver.add_argument("job_id", metavar="JOB")
    deliver.add_argument("--to", default="", metavar="NAME", help="one destination; default: all")
    deliver.set_defaults(command=_jobs_deliver)
    why = commands.add_parser("why", help="what became of a series, and because of what")
    why.add_argument(
        "series_uid", nargs="?", default="", metavar="SERIES_UID", help="default: the latest series"
    )
    why.add_argument("--limit", type=counted, default=20, help="how many (default: 20)")
    why.set_defaults(command=_why)


# Commands import what they need when they run: `viscera --help` stays quick.


def _jobs_list(options: argparse.Namespace, settings: Settings) -> int:
    from viscera.domain.jobs import JobState
    from viscera.roles.parts import opened_store

    try:
        states = [JobState(state) for state in options.state]
    except ValueError as error:
        raise InvalidRequest(f"{error}; there are {', '.join(JobState)}") from error
    with opened_store(settings) as store:
        jobs = store.list_jobs(states=states, limit=options.limit)
    for job in jobs:
        note = job.error_reason or (job.verdict.decision if job.verdict else job.stage)
        when = f"{job.created_at:%Y-%m-%d %H:%M:%S}"
        print(f"{job.id}  {when}  {job.state:<11}{job.model:<24}{note}")
    return 0 if jobs else nothing("no such job in the job store" if states else "no job yet")


def _jobs_show(options: argparse.Namespace, settings: Settings) -> int:
    from viscera.jobs.text import describe_job
    from viscera.roles.parts import opened_store

    with opened_store(settings) as store:
        job = store.get_job(options.job_id)
        for line in describe_job(job, store.deliveries(job.id)):
            print(line)
    return 0


def _jobs_retry(options: argparse.Namespace, settings: Settings) -> int:
    from viscera.roles.parts import opened_store

    with opened_store(settings) as store:
        print(f"{options.job_id} is {store.retry(options.job_id).state}")
    return 0


def _jobs_deliver(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import models
    from viscera.deliver.routes import addresses_of
    from viscera.domain.results import Decision, Verdict
    from viscera.jobs.text import describe_delivery
    from viscera.roles.parts import opened_store

    with opened_store(settings) as store:
        job = store.get_job(options.job_id)
        grade = models.load_model(settings.models.repo, job.model).grade
        addresses = [
            one
            for one in addresses_of(job, grade, Verdict(Decision.DELIVER), settings.deliver)
            if options.to in ("", one.destination)
        ]
        if not addresses:
            where = options.to or "any of deliver.destinations"
            raise InvalidRequest(f"results from {job.principal} are not meant for {where}")
        asked = {one.destination for one in addresses}
        sent = [one for one in store.deliver_again(job.id, addresses) if one.destination in asked]
        for one in sent:
            print(describe_delivery(one))
        if not sent:
            decided = job.verdict.decision if job.verdict else job.state
            raise InvalidRequest(
                f"the result ({decided}) holds nothing that these destinations take"
            )
    return 1 if all(one.barred for one in addresses) else 0


def _why(options: argparse.Namespace, settings: Settings) -> int:
    from viscera.jobs.text import describe_submission
    from viscera.roles.parts import opened_store

    with opened_store(settings) as store:
        found = store.why(options.series_uid, options.limit)
    for submission, choices, refusal in found:
        for line in describe_submission(submission, choices, refusal):
            print(line)
    if found:
        return 0
    named = f"no instance of series {options.series_uid} was received"
    return nothing(named if options.series_uid else "no series was received yet")
