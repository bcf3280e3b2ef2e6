"""Which notebooks must run again, and running them, two at a time, each in processes of its own.

Where several run, their processes are forks of one that has imported what they need.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lsnc_core import custom, data, files, label_files, provenance
from lsnc_core.report import execute, forks
from lsnc_core.runs.spec import digest

# A notebook computes in one thread most of the time, and waits while its kernel starts: one more
# than there are cores keeps these busy. Each takes about 0.6 GB.
AT_ONCE = min(4, (os.cpu_count() or 1) + 1)
FINISHED, UNCHANGED, FAILED = "finished", "unchanged", "failed"


@dataclass(frozen=True)
class Job:
    """A notebook to bring up to date.

    Attributes:
        source: its file.
        parameters: its parameters, all of them, as JSON values.
        runs: the names of the stored networks that it reads.
    """

    source: Path
    parameters: dict
    runs: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.source.stem


@dataclass(frozen=True)
class Outcome:
    """How a job ended: status, seconds, and on failure one sentence and the exit status to pass
    on.
    """

    name: str
    status: str
    seconds: float
    sentence: str = ""
    code: int = 0


def package_digest() -> str:
    """sha256 over the package's sources."""
    total = hashlib.sha256()
    for source in sorted((files.PROJECT / "lsnc_core").rglob("*.py")):
        total.update(hashlib.sha256(source.read_bytes()).digest())
    return total.hexdigest()


def fingerprint(job: Job) -> str:
    """Digest of all that a notebook's outputs depend on: its source, parameters, stored networks,
    your own files, the package, versions.
    """
    source = hashlib.sha256(job.source.read_bytes()).hexdigest()
    given = []
    for value in job.parameters.values():
        given += value if isinstance(value, list) else [value]
    own = [custom.checksum(value) for value in given if custom.is_file(value)]
    own += [label_files.checksum(value) for value in given if label_files.is_label_file(value)]
    if custom.is_file(job.parameters.get("data_set")):
        # its images may come from other files
        own.append(data.load(job.parameters["data_set"]).checksum)
    return digest([source, job.parameters, job.runs, own, package_digest(), provenance.versions()])


@contextlib.contextmanager
def prepared(
    jobs: Sequence[Job], folder: Path, force: bool, say: Callable[[str], object]
) -> Iterator[Callable[[], list[Outcome]]]:
    """What runs the jobs whose fingerprint changed, or all of them with `force`; the others keep
    their executed notebook.

    The process that notebooks are forked from imports what they need meanwhile: prepare them before
    other work that has to come first.

    Args:
        jobs: in the order to start them.
        folder: the profile's outputs: `notebooks/` and `logs/` are written in it.
        force: run unchanged ones too.
        say: called with one line for each notebook that is unchanged, starts or ends.

    Yields:
        A function that runs them and returns how each ended, in the order of the jobs.
    """
    runner = _Runner(folder, say)
    outcomes, due = {}, []
    for job in jobs:
        now = fingerprint(job)
        if not force and runner.is_unchanged(job, now):
            say(f"{job.name}: unchanged")
            outcomes[job.name] = Outcome(job.name, UNCHANGED, 0)
        else:
            due.append((job, now))
    # one notebook would wait for more imports than it needs
    if len(due) > 1 and forks.possible():
        runner.server = forks.Server(_environment())

    def run() -> list[Outcome]:
        for outcome in _run_at_once(runner, due):
            outcomes[outcome.name] = outcome
        return [outcomes[job.name] for job in jobs]

    try:
        yield run
    finally:
        if runner.server:
            runner.server.close()


def _run_at_once(runner: "_Runner", due: Sequence[tuple[Job, str]]) -> list[Outcome]:
    """Run jobs in the order given, `AT_ONCE` at a time; stop them if this is interrupted."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:  # the first of them run before the last is handed over
            waiting = [pool.submit(runner.run, job, now) for job, now in due]
            return [future.result() for future in waiting]
        except BaseException:
            runner.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            if runner.server:  # it would start another notebook
                runner.server.close()
            for child in runner.children:
                child.terminate()
            raise


class _Runner:
    """Runs jobs from several threads, each in a process of its own.

    Attributes:
        server: forks the processes; None to start each anew.
        children: the processes started so far.
        stopped: set when they are being stopped.
    """

    def __init__(self, folder: Path, say: Callable[[str], object]):
        self.folder, self.say = folder, say
        self.server: forks.Server | None = None
        self.children: list[subprocess.Popen | forks.Fork] = []
        self.stopped = threading.Event()

    def _paths(self, job: Job) -> tuple[Path, Path]:
        """The executed notebook, and what is remembered of its run."""
        target = self.folder / "notebooks" / job.source.name
        return target, target.with_suffix(".json")

    def is_unchanged(self, job: Job, now: str) -> bool:
        """Whether there is an executed notebook with this fingerprint."""
        target, state = self._paths(job)
        return target.exists() and remembered(state).get("fingerprint") == now

    def run(self, job: Job, now: str) -> Outcome:
        """Run the job, whose fingerprint is given."""
        (target, state), log = self._paths(job), self.folder / "logs" / f"{job.name}.log"
        self.say(f"{job.name}: started")
        start = time.perf_counter()
        code = self._execute(job, target, log)
        seconds = time.perf_counter() - start
        if self.stopped.is_set():
            # nobody waits for this outcome, and a notebook that was stopped has not failed
            return Outcome(job.name, FAILED, seconds)
        if code == 0:
            memory = {"fingerprint": now, "seconds": round(seconds, 1), "runs": job.runs}
            files.write_whole(state, lambda partial: partial.write_text(json.dumps(memory)))
            self.say(f"{job.name}: finished in {seconds:.0f} s")
            return Outcome(job.name, FINISHED, seconds)
        sentence = _last_line(log) or f"its process ended with status {code} and printed nothing."
        self.say(f"{job.name}: FAILED after {seconds:.0f} s: {sentence}")
        status = execute.MISUSED if code == execute.MISUSED else 1
        return Outcome(job.name, FAILED, seconds, f"{sentence} (log: {log})", status)

    def _execute(self, job: Job, target: Path, log: Path) -> int:
        """Execute a notebook in a process of its own, its output in the log; the exit status."""
        arguments = [str(job.source), str(target), json.dumps(job.parameters)]
        files.write_whole(log, lambda partial: partial.write_text(""))
        with open(log, "w", encoding="utf-8") as written:
            child = self.server.start(arguments, written) if self.server else None
            if child is None:
                child = subprocess.Popen(
                    [sys.executable, "-P", "-m", execute.__name__, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=written,
                    stderr=subprocess.STDOUT,
                    env=_environment(),
                )
            self.children.append(child)
            if self.stopped.is_set():  # started while the others were being stopped
                child.terminate()
            return child.wait()


def threads() -> int:
    """How many threads a notebook's process computes with."""
    return max(1, (os.cpu_count() or 1) // AT_ONCE)


def _environment() -> dict[str, str]:
    """The environment of a notebook's process: it finds this package, and its threads do not fight
    those of other notebooks for cores. A number of threads that the user set stays.
    """
    path = os.pathsep.join(filter(None, [str(files.PROJECT), os.environ.get("PYTHONPATH")]))
    # ipykernel starts a debugger, whose warning of frozen modules does not belong in the log
    settled = {"OMP_NUM_THREADS": str(threads()), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    return {**settled, **os.environ, "PYTHONPATH": path}


def _last_line(log: Path) -> str:
    """The last line of a log that is not blank; "" if there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "")


def remembered(state: Path) -> dict:
    """What is known of a notebook's last finished run: its fingerprint, seconds and the names of
    the stored networks; empty if the file cannot be read.
    """
    try:
        memory = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def remembered_runs(state: Path) -> tuple[str, ...]:
    """The names of the stored networks of a notebook's last finished run; none where the file does
    not list any.
    """
    listed = remembered(state).get("runs", ())
    plain = isinstance(listed, list) and all(isinstance(name, str) for name in listed)
    return tuple(listed) if plain else ()
