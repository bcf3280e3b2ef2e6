"""Which notebooks must run again, and running them, two at a time, each in processes of its own."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lsnc_core import custom, data, files, provenance
from lsnc_core.report.execute import MISUSED
from lsnc_core.runs.spec import digest

# Starting a kernel and importing is most of a notebook's time, and is single-threaded.
AT_ONCE = 2
FINISHED, UNCHANGED, FAILED = "finished", "unchanged", "failed"


@dataclass(frozen=True)
class Job:
    """A notebook to bring up to date: its file, its parameters, and the names of the stored runs it
    reads.
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
    sources = sorted((files.PROJECT / "lsnc_core").rglob("*.py"))
    return hashlib.sha256(
        b"".join(hashlib.sha256(source.read_bytes()).digest() for source in sources)
    ).hexdigest()


def fingerprint(job: Job) -> str:
    """Digest of all that a notebook's outputs depend on: its source, parameters, stored runs,
    readers' files, the package, versions.
    """
    source = hashlib.sha256(job.source.read_bytes()).hexdigest()
    given = [
        entry
        for value in job.parameters.values()
        for entry in (value if isinstance(value, list) else [value])
    ]
    own = [custom.checksum(entry) for entry in given if custom.is_file(entry)]
    if custom.is_file(job.parameters.get("data_set")):
        own.append(
            data.load(job.parameters["data_set"]).checksum
        )  # its images may come from other files
    return digest([source, job.parameters, job.runs, own, package_digest(), provenance.versions()])


def run_jobs(
    jobs: Sequence[Job], folder: Path, force: bool, say: Callable[[str], object]
) -> list[Outcome]:
    """Run those jobs whose fingerprint changed, or all of them with `force`; the others keep their
    executed notebook.

    Args:
        jobs: in the order to start them.
        folder: the profile's outputs: `notebooks/` and `logs/` are written in it.
        say: called with one line for each notebook that starts or ends.
    """
    children: list[subprocess.Popen] = []
    stopped = threading.Event()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(_run, job, folder, force, say, children, stopped) for job in jobs]
        try:
            return [future.result() for future in waiting]
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.terminate()
            raise


def _run(
    job: Job,
    folder: Path,
    force: bool,
    say: Callable[[str], object],
    children: list,
    stopped: threading.Event,
) -> Outcome:
    target, state, log = (
        folder / "notebooks" / job.source.name,
        folder / "notebooks" / f"{job.name}.json",
        folder / "logs" / f"{job.name}.log",
    )
    now = fingerprint(job)
    if not force and target.exists() and remembered(state).get("fingerprint") == now:
        say(f"{job.name}: unchanged")
        return Outcome(job.name, UNCHANGED, 0)
    say(f"{job.name}: started")
    start = time.perf_counter()
    path = os.pathsep.join(filter(None, [str(files.PROJECT), os.environ.get("PYTHONPATH")]))
    # threads of two kernels that fight for the same cores wait for each other; whoever sets a
    # number knows better
    environment = (
        {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // AT_ONCE))}
        | os.environ
        | {"PYTHONPATH": path}
    )
    command = [
        sys.executable,
        "-P",
        "-m",
        "lsnc_core.report.execute",
        str(job.source),
        str(target),
        json.dumps(job.parameters),
    ]
    files.write_whole(log, lambda partial: partial.write_text(""))
    with open(log, "w", encoding="utf-8") as written:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        children.append(child)
        if stopped.is_set():  # started while the others were being stopped
            child.terminate()
        code = child.wait()
    seconds = time.perf_counter() - start
    if (
        stopped.is_set()
    ):  # nobody waits for this outcome, and a notebook that was stopped has not failed
        return Outcome(job.name, FAILED, seconds)
    if code == 0:
        memory = {"fingerprint": now, "seconds": round(seconds, 1), "runs": job.runs}
        files.write_whole(state, lambda partial: partial.write_text(json.dumps(memory)))
        say(f"{job.name}: finished in {seconds:.0f} s")
        return Outcome(job.name, FINISHED, seconds)
    lines = [
        line
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    sentence = lines[-1] if lines else f"its process ended with status {code} and without a word."
    say(f"{job.name}: FAILED after {seconds:.0f} s: {sentence}")
    return Outcome(
        job.name, FAILED, seconds, f"{sentence} (log: {log})", MISUSED if code == MISUSED else 1
    )


def remembered(state: Path) -> dict:
    """What is known of a notebook's last finished run: fingerprint, seconds, names of the stored
    runs; empty when nothing is readable.
    """
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
