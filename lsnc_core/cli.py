"""The command behind run_all.sh: train what is missing, run the notebooks, build the report."""

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence

from lsnc_core import files, papers, profiles
from lsnc_core.errors import UsageError
from lsnc_core.report import catalog

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

DESCRIPTION = """\
Recompute every figure, table and verdict of the companion and collect them in one HTML report.
Results that are stored and unchanged are reused, so a second run takes seconds."""

EPILOG = """\
examples:
  ./run_all.sh                                 everything, in the profile that fits this machine
  ./run_all.sh --profile smoke                 check in a minute that everything runs
  ./run_all.sh --only chen_2_landscape -p data_set=digits
  ./run_all.sh --only guo_1_dynamics --figure guo-f2
  ./run_all.sh --list                          list the notebooks, their figures and minutes

The report is outputs/PROFILE/report/index.html. Exit status: 0 everything finished, 1 something
failed, 2 the request cannot be carried out, 130 interrupted. Finished work is always kept."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        "run_all.sh",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    texts = ". ".join(f"{name}: {text}" for name, text in profiles.PROFILES.items())
    command.add_argument(
        "--profile",
        default="auto",
        metavar="NAME",
        help="how much to compute; auto, the default, is gpu if CUDA, MNIST and CIFAR-10 are "
        f"available, else quick. {texts}",
    )
    command.add_argument(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="NOTEBOOK",
        help="run only these notebooks, named as in --list",
    )
    command.add_argument(
        "--figure",
        metavar="NAME",
        help="draw only this figure, named as on its page, into outputs/PROFILE/figures/; "
        "no report is made",
    )
    command.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter in every chosen notebook that has it",
    )
    command.add_argument("--list", action="store_true", help="list the notebooks and exit")
    command.add_argument(
        "--force",
        action="store_true",
        help="run unchanged notebooks again; stored networks are kept",
    )
    command.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda",
        help="where to train; auto is CUDA if torch finds it",
    )
    command.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU, give the same bits in every run; slower (one CPU machine always does)",
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
        help="keep the figures, tables and verdicts of this run in a folder; every report shows "
        "the recordings in outputs/recorded/",
    )
    command.add_argument("--offline", action="store_true", help="never download anything")
    return command


def list_notebooks() -> None:
    """Print each notebook with its paper and section, its minutes and what it shows."""
    header = ("notebook", "paper, section", "minutes", "shows")
    rows = [header]
    for entry in papers.entries():
        rows.append((entry.name, catalog.place(entry), catalog.minutes(entry), entry.shows))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, place, minutes, shows in rows:
        print(f"{name:<{widths[0]}}  {place:<{widths[1]}}  {minutes:>{widths[2]}}  {shows}")
    print(
        "\nMinutes: a first run in the quick profile on 2 CPU cores, training included. "
        "Later runs take seconds."
    )


def apply_settings(arguments: argparse.Namespace) -> None:
    """Put folders and switches into the environment, for this process and those it starts.

    Raises:
        UsageError: for a folder without a name, or a data folder that does not exist.
    """
    if arguments.figure is not None and arguments.record is not None:
        raise UsageError("--record keeps whole notebooks, so it does not go with --figure.")
    if "" in (arguments.outputs, arguments.data, arguments.record):
        raise UsageError("--outputs, --data and --record take the name of a folder, got nothing.")
    for name, folder in (("LSNC_OUTPUTS", arguments.outputs), ("LSNC_DATA", arguments.data)):
        if folder:
            os.environ[name] = str(files.find_place(folder))
    if arguments.data and not os.path.isdir(os.environ["LSNC_DATA"]):
        raise UsageError(
            f"the data folder {arguments.data} does not exist: "
            "make it, or name another with --data."
        )
    for name, wanted in (
        ("LSNC_OFFLINE", arguments.offline),
        ("LSNC_DETERMINISTIC", arguments.deterministic),
    ):
        if wanted:
            os.environ[name] = "1"


def run(arguments: argparse.Namespace) -> int:
    """Carry out the request.

    Returns:
        The exit status.

    Raises:
        UsageError: if the request cannot be carried out.
    """
    start = time.perf_counter()
    entries = catalog.choose(arguments.only)
    apply_settings(arguments)
    from lsnc_core.report import pipeline, redraw

    if arguments.figure is not None:
        entries = [redraw.choose(entries, arguments.figure)]
    target = files.find_place(arguments.record) if arguments.record else None
    request = pipeline.resolve(
        entries,
        arguments.profile,
        arguments.device,
        arguments.parameters,
        arguments.force,
        target,
    )
    if arguments.figure is not None:
        for path in pipeline.draw_figure(request, arguments.figure):
            print(path)
        return OK
    index, outcomes = pipeline.carry_out(request)
    print(f"\n{time.perf_counter() - start:.0f} s in total. Report: {index}")
    return max((outcome.code for outcome in outcomes.values()), default=OK)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; every way it can end has its exit status and one sentence."""
    given = parser().parse_args(arguments)
    try:
        if given.list:
            list_notebooks()
            return OK
        return run(given)
    except UsageError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print(
            "\nrun_all.sh: interrupted; finished work is kept, run it again to continue.",
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
            f"run_all.sh: an error in the companion itself, {type(error).__name__}: {error}; "
            f"finished work is kept, details are in {log}.",
            file=sys.stderr,
        )
        return FAILED


if __name__ == "__main__":
    # a request to end, as a scheduler sends it, is a Ctrl-C: what runs is stopped, not left behind
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
