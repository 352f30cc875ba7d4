"""The command line: reads the settings once, builds objects once, stops on SIGTERM."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from viscera import __version__, cli_jobs, cli_models, log
from viscera.cli_models import with_models
from viscera.cli_parts import Commands, nothing, whole
from viscera.config import LogSettings, Settings, load_settings
from viscera.config_text import describe_settings
from viscera.domain.models import Profile
from viscera.errors import ModelNotFound, ServiceError

_CONFIG_PLACES = (Path("viscera.toml"), Path("/etc/viscera/viscera.toml"))

Command = Callable[[argparse.Namespace, Settings], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status.

    A known error is one line on stderr and status 2. Where there was nothing to show, or what
    was checked is not good, the status is 1.
    """
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(options.config or _default_config())
        # Roles choose again; the other commands speak to people.
        log.configure(LogSettings(level="error", format="text"), "cli")
        command: Command = options.command
        return command(options, settings)
    except ModelNotFound as error:
        repo = settings.models.repo.absolute()
        return _complain(f"{error.reason}: {error}; models.repo is {repo}")
    except ServiceError as error:
        return _complain(f"{error.reason}: {error}")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `viscera jobs list | head`
        sys.stderr.close()
        return 0
    except OSError as error:
        if options.command in (
            _serve,
            _receive,
            _role,
        ):  # nobody expects it there: the traceback tells more
            raise
        return _complain(f"{error.filename or 'system'}: {error.strerror or error}")


def _complain(text: str) -> int:
    print(f"viscera: {'; '.join(text.splitlines())}", file=sys.stderr)
    return 2


def _default_config() -> Path | None:
    return next((place for place in _CONFIG_PLACES if place.is_file()), None)


def _millimetres(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length in mm above 0")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="viscera",
        description="A PACS pushes CT and MR series in; abdominal organs come back.",
        epilog="Settings: viscera.toml here, or /etc/viscera/viscera.toml, or --config FILE; "
        "VISCERA_SECTION__KEY in the environment goes over it. `viscera config show` lists all.",
    )
    parser.add_argument("--version", action="version", version=f"viscera {__version__}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (TOML)")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_service_commands(commands)
    _add_segment(commands)
    _add_evaluate(commands)
    _add_phantom(commands)
    cli_models.add(commands)
    cli_jobs.add(commands)
    _add_pull(commands)
    _add_config(commands)
    return parser


def _add_service_commands(commands: Commands) -> None:
    serve = commands.add_parser("serve", help="run every role on this machine")
    serve.set_defaults(command=_serve)
    helps = {
        "receive": "run the DICOM listener alone",
        "api": "run the gRPC door alone",
        "work": "run a worker alone",
        "deliver": "run the deliverer alone",
    }
    for role, text in helps.items():
        one = commands.add_parser(role, help=text)
        one.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
        one.add_argument("--parent", type=int, help=argparse.SUPPRESS)
        one.add_argument("--number", type=int, help=argparse.SUPPRESS)
        one.add_argument("--seats-fd", type=int, help=argparse.SUPPRESS)
        one.set_defaults(command=_receive if role == "receive" else _role, role=role)


def _add_segment(commands: Commands) -> None:
    segment = commands.add_parser(
        "segment",
        help="segment a DICOM folder, NIfTI, NRRD or MHA without a service",
        description="Writes SEG, SR, QC picture and volumes.json for each DICOM series; "
        "a label map, QC picture and volumes.json for other volumes.",
    )
    segment.add_argument(
        "input",
        type=Path,
        nargs="+",
        metavar="INPUT",
        help="folder or file; for a model of several channels one for each, in its order",
    )
    segment.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go")
    segment.add_argument("--model", default="", metavar="NAME[/VERSION]", help="default: settings")
    segment.add_argument("--model-repo", type=Path, metavar="DIR", help="default: settings")
    segment.add_argument(
        "--profile", choices=("exact", "fast"), help="of the input's resampling; default: settings"
    )
    segment.add_argument(
        "--modality", choices=("CT", "MR"), help="of a volume that is not DICOM (default: CT)"
    )
    segment.set_defaults(command=_segment)


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="compare label maps with a reference: Dice and surface distance for each organ",
        description="Label maps are NIfTI, NRRD, MHA or DICOM-SEG, two files or two folders whose "
        "files are matched by name. Both must lie on one grid. An organ that the reference does "
        "not have is not scored. Intervals are of the mean, 95 %, by resampling the cases. Needs "
        "the extra `evaluate`.",
    )
    evaluate.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="folder or file")
    evaluate.add_argument("reference", type=Path, metavar="REFERENCE", help="folder or file")
    evaluate.add_argument(
        "--labels",
        type=Path,
        metavar="MAP.toml",
        help='what values mean, as 1 = "spleen", for both or under [prediction] and [reference] '
        "(default: as a volumes.json beside labels.* says, else AMOS's values)",
    )
    evaluate.add_argument(
        "--tolerance",
        type=_millimetres,
        default=3.0,
        metavar="MM",
        help="of the normalised surface distance (default: 3)",
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write all scores")
    evaluate.add_argument("--picture", type=Path, metavar="FILE", help="write a PNG")
    evaluate.set_defaults(command=_evaluate)


def _add_phantom(commands: Commands) -> None:
    phantom = commands.add_parser(
        "phantom", help="write a synthetic torso CT series with known organs"
    )
    phantom.add_argument("--out", type=Path, required=True, metavar="DIR", help="where slices go")
    phantom.add_argument("--seed", type=whole, default=7, help="which body (default: 7)")
    phantom.set_defaults(command=_phantom)


def _add_pull(commands: Commands) -> None:
    pull = commands.add_parser(
        "pull",
        help="have a PACS send a study to our listener",
        description="C-FIND for the CT and MR series of the study, C-MOVE of each to our listener, "
        "which must run. The PACS must know our AE title as a destination.",
    )
    pull.add_argument("study_uid", metavar="STUDY_UID")
    pull.add_argument(
        "--from", dest="peer", required=True, metavar="PEER", help="name or AE title of a peer"
    )
    pull.set_defaults(command=_pull)


def _add_config(commands: Commands) -> None:
    config = commands.add_parser("config", help="check or show the settings")
    actions = config.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("check", help="exit 0 if the settings and models are usable")
    check.set_defaults(command=_config_check)
    show = actions.add_parser("show", help="print every setting in force with its meaning (TOML)")
    show.set_defaults(command=_config_show)


# Commands import what they need when they run: `viscera --help` stays quick.


def _serve(options: argparse.Namespace, settings: Settings, *roles: str) -> int:
    from viscera.roles.stopping import stop_on_signals
    from viscera.supervise import ROLES, Supervisor

    log.configure(settings.log, "serve")
    config = options.config or _default_config()
    before = ["--config", str(config)] if config else []
    try:
        Supervisor(before, settings, roles or ROLES).run(stop_on_signals())
    except ServiceError as error:  # in the log, where whoever runs `serve` looks
        log.get(__name__).error("serve_failed", reason=error.reason, error=str(error))
        return 2
    return 0


def _receive(options: argparse.Namespace, settings: Settings) -> int:
    """Run the listener; where it is several processes, under a supervisor of their own."""
    from viscera.roles.shared_port import listener_count

    if options.parent is None and listener_count(settings.dicom) > 1:
        return _serve(options, settings, "receive")
    return _role(options, settings)


def _role(options: argparse.Namespace, settings: Settings) -> int:
    from viscera.roles.parts import Face, die_with
    from viscera.roles.stopping import stop_on_signals

    log.configure(settings.log, options.role, options.number)
    if options.parent is not None:
        die_with(options.parent)
    role = importlib.import_module(f"viscera.roles.{options.role}")
    face = Face(options.role, settings, options.ready_fd, options.seats_fd)
    try:
        role.run(face, stop_on_signals())
    except ServiceError as error:  # in the log, where whoever runs `serve` looks
        log.get(__name__).error("role_failed", reason=error.reason, error=str(error))
        return 2
    return 0


def _segment(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import offline

    profile = options.profile and Profile(options.profile)
    settings = with_models(settings, repo=options.model_repo, profile=profile)
    return offline.segment_input(
        options.input, options.out, settings, model=options.model, modality=options.modality or ""
    )


def _evaluate(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import evaluate
    from viscera.offline import progress_line

    evaluate.metrics_library()
    naming = evaluate.read_naming(options.labels) if options.labels else evaluate.Naming()
    matching = evaluate.find_cases(options.predictions, options.reference)
    with progress_line("evaluate") as progress:
        report = evaluate.evaluate(matching, naming, options.tolerance, progress)
    for line in evaluate.table_lines(report):
        print(line)
    if options.json:
        evaluate.write_json(options.json, report)
    if options.picture:
        evaluate.write_picture(options.picture, report)
    return 0 if report.organs else 1


def _phantom(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import phantom

    made = phantom.make_phantom(options.seed)
    paths = phantom.write_series(made, options.out)
    for organ, millilitres in made.true_ml.items():
        print(f"{organ:<22}{millilitres:>9.1f} mL")
    print(f"{len(paths)} slices in {options.out}")
    return 0


def _pull(options: argparse.Namespace, settings: Settings) -> int:
    from viscera.domain.sources import MODALITIES
    from viscera.receive.pull import asking, find_peer

    peer = find_peer(settings.dicom, options.peer)
    modalities = set(MODALITIES.values())
    with asking(peer, settings.dicom.ae_title) as puller:
        found = puller.find(options.study_uid)
        wanted = [one for one in found if one.modality in modalities]
        for one in wanted:
            sent = puller.move(options.study_uid, one.series_uid)
            print(f"{one.series_uid}  {one.modality}  {sent} instances")
    other = len(found) - len(wanted)
    if not wanted:
        return nothing(f"{peer.name} has no CT or MR series of this study ({other} others)")
    print(f"{len(wanted)} series asked for, {other} others left; `viscera why SERIES_UID` follows")
    return 0


def _config_check(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import offline

    for line in offline.check_settings(settings):
        print(line)
    return 0


def _config_show(options: argparse.Namespace, settings: Settings) -> int:
    print(describe_settings(settings))
    return 0
