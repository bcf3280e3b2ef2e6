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
# what JupyterLab's notebooks read from the environment; everything else is set in a notebook
WITH_LAB = ("data", "outputs", "offline", "deterministic")

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
  ./run_all.sh --lab                           open the notebooks in JupyterLab

The report is outputs/PROFILE/report/index.html. Exit status: 0 everything finished, 1 something
failed, 2 the request cannot be carried out, 130 interrupted (--lab: 0, for it runs until then).
Finished work is always kept."""


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
        "--lab",
        action="store_true",
        help="open the notebooks in JupyterLab, for this computer alone, until Ctrl-C; your own "
        "Jupyter settings stay as they are",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="run unchanged notebooks again; stored networks are kept",
    )
    _add_training(command)
    _add_folders(command)
    return command


def _add_training(command: argparse.ArgumentParser) -> None:
    """The options on where networks are trained, and which share of them."""
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
        "--scheduler",
        default="",
        metavar="ADDRESS",
        help="train on the workers of a Dask scheduler, such as tcp://HOST:8786",
    )
    command.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="train in N processes that Dask starts here; on GPUs, one for each process",
    )
    shares = command.add_mutually_exclusive_group()
    shares.add_argument(
        "--shard",
        nargs="?",
        const="",
        metavar="I/N",
        help="train part I of N of the networks and end without running notebooks; without a value "
        "the task of this Slurm array",
    )
    shares.add_argument(
        "--plan",
        action="store_true",
        help="print what the networks cost on 1, 8 and 64 such machines, and train nothing",
    )


def _add_folders(command: argparse.ArgumentParser) -> None:
    """The options on where files lie."""
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
        UsageError: for options that exclude each other, a folder without a name, or a data folder
            that does not exist.
    """
    if arguments.figure is not None and arguments.record is not None:
        raise UsageError("--record keeps whole notebooks, so it does not go with --figure.")
    whole = arguments.figure is not None or arguments.record is not None
    if whole and (arguments.plan or arguments.shard is not None):
        raise UsageError(
            "--plan and --shard run no notebooks, so they do not go with --figure or --record."
        )
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


def check_lab(arguments: argparse.Namespace) -> None:
    """Refuse what says nothing about JupyterLab. Raises: UsageError."""
    usual = vars(parser().parse_args([]))
    given = []
    for name, value in vars(arguments).items():
        if value != usual[name] and name not in ("lab", *WITH_LAB):
            given.append("-p" if name == "parameters" else f"--{name}")
    if given:
        allowed = ", ".join(f"--{name}" for name in WITH_LAB)
        raise UsageError(
            f"--lab opens the notebooks and goes with {allowed} alone, got {', '.join(given)}: "
            "choose notebooks, profiles and parameters in JupyterLab."
        )


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
    if arguments.lab:
        from lsnc_core.report import lab

        lab.start()
        return OK
    from lsnc_core.report import pipeline, redraw
    from lsnc_core.runs import shards

    shard = None if arguments.shard is None else shards.shard_of(arguments.shard)
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
        arguments.scheduler,
        arguments.workers,
    )
    if arguments.plan:
        pipeline.print_plan(request)
        return OK
    if shard:
        pipeline.train_shard(request, shard)
        return OK
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
        if given.lab:
            check_lab(given)
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
