"""What run_all.sh calls: trains what is missing, runs the notebooks, builds the report."""

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from lsnc_core import files, profiles
from lsnc_core.errors import UsageError
from lsnc_core.report import catalog

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

DESCRIPTION = """\
Rebuilds every figure, table and verdict of the companion and gathers them in one HTML report.
What is already computed and unchanged is not computed again, so a second start takes seconds."""

EPILOG = """\
examples:
  ./run_all.sh                                 everything, in the profile that fits this machine
  ./run_all.sh --profile smoke                 does it run here? three minutes
  ./run_all.sh --only chen_2_landscape -p data_set=digits
  ./run_all.sh --list                          the notebooks, their figures and minutes

The report is outputs/PROFILE/report/index.html. Exit status: 0 all done, 1 something failed,
2 the request cannot be carried out, 130 stopped with Ctrl-C or asked to end. Whatever had finished is kept."""


def parser() -> argparse.ArgumentParser:
    """The command line, in words that a stranger understands."""
    command = argparse.ArgumentParser(
        "run_all.sh",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    texts = "; ".join(f"{name}: {text}" for name, text in profiles.PROFILES.items())
    command.add_argument(
        "--profile",
        default="auto",
        metavar="NAME",
        help=f"how much to compute: auto (the default: gpu where CUDA, MNIST and CIFAR-10 are there, else quick); {texts}",
    )
    command.add_argument(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="NOTEBOOK",
        help="only these notebooks (names as in --list)",
    )
    command.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter in every chosen notebook that has it",
    )
    command.add_argument("--list", action="store_true", help="show the notebooks and stop")
    command.add_argument(
        "--force",
        action="store_true",
        help="run notebooks again even if nothing changed (stored networks are kept)",
    )
    command.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda",
        help="where to train; auto takes CUDA where torch finds it",
    )
    command.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU: the same bits every time, slower (on one CPU machine they always are)",
    )
    command.add_argument(
        "--data",
        metavar="DIR",
        help="folder of downloaded image sets (default: LSNC_DATA, else outputs/data)",
    )
    command.add_argument(
        "--outputs",
        metavar="DIR",
        help="folder for everything generated (default: LSNC_OUTPUTS, else outputs/)",
    )
    command.add_argument(
        "--record",
        metavar="DIR",
        help="keep this run's figures, tables and verdicts in a folder; every report of this checkout shows those in outputs/recorded/",
    )
    command.add_argument("--offline", action="store_true", help="never download anything")
    return command


def list_notebooks() -> None:
    """Print each notebook with its paper, what it shows and its minutes."""
    print(f"{'notebook':<30} {'paper':<18} {'minutes':>7}  shows")
    for entry in catalog.NOTEBOOKS:
        print(f"{entry.name:<30} {entry.paper:<18} {entry.quick_minutes:>7g}  {entry.shows}")
    print(
        "\nMinutes of a first run of the quick profile on 2 CPU cores; later runs take seconds. Not measured for gpu and paper."
    )


def _say(line: str) -> None:
    """Print a line in one piece: two notebooks speak at the same time."""
    print(f"{line}\n", end="", flush=True)


def _check_writable(folder: Path, option: str) -> None:
    """Refuse before the training what would be noticed only when something is to be written; the
    option that names the folder.
    """
    probe = folder / ".writable"
    try:
        files.write_whole(probe, lambda path: path.touch())
    except UsageError as error:
        raise UsageError(str(error).replace("--outputs", option)) from error
    probe.unlink(missing_ok=True)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the request; returns the exit status.

    Raises:
        UsageError: when it cannot be carried out.
    """
    start = time.perf_counter()
    chosen = catalog.choose(arguments.only)
    if "" in (arguments.outputs, arguments.data, arguments.record):
        raise UsageError("--outputs, --data and --record take the name of a folder, got nothing.")
    for name, value in (("LSNC_OUTPUTS", arguments.outputs), ("LSNC_DATA", arguments.data)):
        if value:
            os.environ[name] = str(Path(value).expanduser().absolute())
    target = Path(arguments.record).expanduser().absolute() if arguments.record else None
    if arguments.data and not Path(os.environ["LSNC_DATA"]).is_dir():
        raise UsageError(
            f"the data folder {arguments.data} does not exist: make it, or name another with --data."
        )
    if arguments.offline:
        os.environ["LSNC_OFFLINE"] = "1"
    if arguments.deterministic:
        os.environ["LSNC_DETERMINISTIC"] = "1"

    import torch

    from lsnc_core import runs
    from lsnc_core.report import build, parameters, record, schedule

    if target:
        record.check_name(target)

    device = runs.choose_device(arguments.device)
    profile, why = profiles.resolve(arguments.profile, arguments.device)
    sources = {entry.name: files.PROJECT / "notebooks" / f"{entry.name}.ipynb" for entry in chosen}
    given = parameters.assign(
        arguments.parameters, {name: parameters.defaults(path) for name, path in sources.items()}
    )
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, device {device}")
    print(f"profile {profile} ({why}): {profiles.PROFILES[profile]}", flush=True)

    wanted = {}
    for entry in chosen:
        settings = given[entry.name]
        settings |= {
            name: value
            for name, value in (("profile", profile), ("device", device))
            if name in settings
        }
        wanted[entry.name] = entry.runs(
            **{name: settings[name] for name in entry.run_parameters if name in settings}
            or {"profile": profile}
        )
    _check_writable(files.outputs_root(), "--outputs")
    record.recordings()  # a damaged one is better said now
    if target:
        _check_writable(target, "--record")
    store = runs.Store()
    union = list(dict.fromkeys(spec for specs in wanted.values() for spec in specs))
    before = {spec for spec in union if store.path(spec).exists()}
    table = runs.results(union, device, store)
    trained = time.perf_counter()
    if union:
        print(
            f"networks: {len(union) - len(before)} trained, {len(before)} from the store, {trained - start:.0f} s",
            flush=True,
        )

    folder = files.outputs_root() / profile
    jobs = [
        schedule.Job(sources[name], given[name], tuple(store.path(spec).stem for spec in specs))
        for name, specs in wanted.items()
    ]
    minutes = {entry.name: entry.quick_minutes for entry in chosen}
    jobs.sort(key=lambda job: -minutes[job.name])  # the longest first
    outcomes = {
        outcome.name: outcome for outcome in schedule.run_jobs(jobs, folder, arguments.force, _say)
    }
    failures = {
        name: outcome.sentence
        for name, outcome in outcomes.items()
        if outcome.status == schedule.FAILED
    }
    last = table[table.epoch == table.epochs] if len(table) else table
    index = build.build(folder, profile, catalog.NOTEBOOKS, failures, last)
    if target and not failures:
        record.write(target, folder, profile, arguments.parameters, list(wanted), last)

    print(f"\n{'notebook':<30} {'status':<10} {'networks':<24} {'seconds':>7}")
    for entry in chosen:
        specs, outcome = wanted[entry.name], outcomes[entry.name]
        networks = (
            f"{sum(spec not in before for spec in specs)} trained, {sum(spec in before for spec in specs)} stored"
            if specs
            else "none"
        )
        print(f"{entry.name:<30} {outcome.status:<10} {networks:<24} {outcome.seconds:>7.0f}")
    for name, sentence in failures.items():
        print(f"\n{name} failed: {sentence}")
    if target:
        print(
            f"\nnothing recorded: {len(failures)} failed" if failures else f"\nrecorded in {target}"
        )
    print(f"\n{time.perf_counter() - start:.0f} s in all. Report: {index}")
    return max((outcome.code for outcome in outcomes.values()), default=OK)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command's whole life; returns its exit status."""
    given = parser().parse_args(arguments)
    if given.list:
        list_notebooks()
        return OK
    try:
        return run(given)
    except UsageError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print(
            "\nrun_all.sh: stopped; what had finished is kept, start again to go on.",
            file=sys.stderr,
        )
        return INTERRUPTED
    except Exception as error:
        log = files.outputs_root() / "error.log"
        text = traceback.format_exc()
        try:
            files.write_whole(log, lambda path: path.write_text(text))
        except UsageError:
            print(text, file=sys.stderr)
        print(
            f"run_all.sh: an error of the companion itself, {type(error).__name__}: {error}; "
            f"what had finished is kept, details are in {log}.",
            file=sys.stderr,
        )
        return FAILED


if __name__ == "__main__":
    # a request to end, as a scheduler sends it, is a Ctrl-C: what runs is stopped, not left behind
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
