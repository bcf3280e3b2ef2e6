"""Notebooks that hang, flood their output, end or crash their kernel, or run out of memory: each
really does, beside one that is well.
"""

import os
import re

import nbformat
import psutil
import pytest
from helpers import one_sentence, run_jobs

from lsnc_core import papers
from lsnc_core.errors import UsageError
from lsnc_core.report import execute, limits, pages, schedule

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
# the last cell of each: what came before is computed, and what comes after does not run
FAULTS = {
    "hangs": (
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "pathlib.Path('kernel').write_text(str(os.getpid()))\n"
        "while True: time.sleep(1)",
        r"cell 2 was stopped after 0\.4 minutes: if it does not hang, allow more with "
        r"LSNC_CELL_MINUTES\.",
    ),
    "exits": (
        "import os\nos._exit(3)",
        r"cell 2 ended its kernel with exit status 3: a notebook must run to its end\.",
    ),
    "exits as if all were well": (
        "import os\nos._exit(0)",
        r"cell 2 ended its kernel with exit status 0: a notebook must run to its end\.",
    ),
    "stops": (
        "import sys\nsys.exit('enough')",
        r"the notebook stopped early: 1 cells? did not run\.|cell 2 failed: SystemExit: enough",
    ),
    "crashes": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
        r"the kernel crashed in cell 2 \(SIGSEGV\)\.",
    ),
    "is killed": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        r"the kernel was killed in cell 2, usually because memory ran out: close other programs "
        r"or choose a smaller profile\.",
    ),
    "runs out of memory in numpy": (
        "import resource\nimport numpy as np\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "np.empty(1 << 31)",
        r"cell 2 failed: memory ran out \(Unable to allocate .*\): close other programs or choose "
        r"a smaller profile\.",
    ),
    "runs out of memory in torch": (
        "import resource\nimport torch\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "torch.empty(1 << 32)",
        r"cell 2 failed: memory ran out \(.*can't allocate memory.*\): close other programs or "
        r"choose a smaller profile\.",
    ),
    "runs out of memory in Python": (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "b' ' * (16 << 30)",
        r"cell 2 failed: memory ran out \(MemoryError\): close other programs or choose a smaller "
        r"profile\.",
    ),
    "says too much when it fails": (
        "raise ValueError('x' * 10_000_000)",
        r"cell 2 failed: ValueError: x{1000} \.\.\.",
    ),
}
FLOOD = (
    "import sys\n"
    "for _ in range(300): print('x' * 100_000)\n"  # 30 MB
    "print('<script>' * 4_000_000, file=sys.stderr)",
    "from IPython.display import HTML, display\n"
    "for number in range(20): display(HTML(f'<p>{number}</p>' + 'y' * 5_000_000))",
    "print('the end')",
)


def write(folder, name, *cells):
    """A notebook with an empty cell of parameters and these code cells."""
    first = nbformat.v4.new_code_cell("steps = 3", metadata={"tags": ["parameters"]})
    made = [first, *map(nbformat.v4.new_code_cell, cells)]
    content = nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": KERNEL})
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, folder / f"{name}.ipynb")
    return schedule.Job(folder / f"{name}.ipynb", {}, ())


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Where all notebooks ran, side by side, and by name how each ended."""
    folder = tmp_path_factory.mktemp("faults")
    jobs = [write(folder, name, cell, "'after'") for name, (cell, _) in FAULTS.items()]
    jobs.append(write(folder, "floods", *FLOOD))
    jobs.append(write(folder, "well", "print(steps)"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_CELL_MINUTES", "0.4")
        (folder / "out/notebooks").mkdir(parents=True)
        for name in FAULTS:
            (folder / f"out/notebooks/{name}.ipynb").write_text("an earlier result")
        outcomes = run_jobs(jobs, folder / "out", False, lambda line: None)
    return folder, {outcome.name: outcome for outcome in outcomes}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_sentence_and_keeps_the_earlier_result(ended, name):
    folder, outcomes = ended
    sentence, log = re.fullmatch(r"(.*) \(log: (.*)\)", outcomes[name].sentence).groups()
    assert re.fullmatch(FAULTS[name][1], sentence), sentence
    assert (outcomes[name].status, outcomes[name].code) == (schedule.FAILED, 1)
    assert os.path.exists(log)
    assert (folder / f"out/notebooks/{name}.ipynb").read_text() == "an earlier result"
    assert not (folder / f"out/notebooks/{name}.json").exists()


def test_the_others_finish(ended):
    folder, outcomes = ended
    assert outcomes["well"].status == schedule.FINISHED
    executed = nbformat.read(folder / "out/notebooks/well.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "3\n"


def test_nothing_of_a_kernel_that_hangs_is_left(ended):
    assert not psutil.pid_exists(int((ended[0] / "kernel").read_text()))


def test_a_flood_is_cut_and_the_page_still_made(ended):
    folder, outcomes = ended
    assert outcomes["floods"].status == schedule.FINISHED, outcomes["floods"].sentence
    source = folder / "out/notebooks/floods.ipynb"
    assert source.stat().st_size < limits.SHOWN + 4 * limits.TEXT
    _, texts, shown, last = nbformat.read(source, as_version=4).cells
    printed = {"stdout": "", "stderr": ""}
    for output in texts.outputs:
        printed[output.name] += output.text
    out, err = printed.values()
    assert len(out) < limits.TEXT + 200 and out.startswith("x" * 99_000)
    assert "100,000 characters of standard output" in out
    assert len(err) < limits.TEXT + 200 and "of standard error" in err
    # nine displays of 5 MB fit 50 MB with what surrounds them
    kinds = [output.output_type for output in shown.outputs]
    assert kinds == ["display_data"] * 9 + ["stream"]
    assert last.outputs[0].text == "the end\n"
    page = pages.convert(papers.entries()[0], source, folder / "report", "smoke")
    assert "the end" in page.body and "<script>" not in page.body


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "an hour", "1e300", "0x1"])
def test_a_limit_that_is_none_is_a_sentence(monkeypatch, capfd, tmp_path, text):
    monkeypatch.setenv("LSNC_CELL_MINUTES", text)
    with pytest.raises(UsageError, match="LSNC_CELL_MINUTES") as raised:
        limits.minutes()
    assert one_sentence(raised.value) and repr(text) in str(raised.value)


def test_a_misspelt_limit_is_refused_before_a_kernel_starts(monkeypatch, capfd, tmp_path):
    monkeypatch.setenv("LSNC_CELL_MINUTES", "long")
    job = write(tmp_path, "one", "1")
    code = execute.main([str(job.source), str(tmp_path / "out.ipynb"), "{}"])
    assert code == execute.MISUSED and "'long'" in capfd.readouterr().out
