"""The local pool: processes that cannot start, whose they are, and what it keeps of a task."""

import gc
import multiprocessing
import os
import subprocess
import sys
import textwrap
import time
import weakref

import torch
from conftest import ROOT
from helpers import one_sentence

from lsnc_core.runs.pool import LocalPool

# one training process suffices
UNGUARDED = """
    import sys
    sys.path += sys.argv[1:]
    from helpers import a_spec
    from lsnc_core.errors import UsageError
    from lsnc_core.runs import execute, results

    execute.BLOCK, execute.SOON, execute.cores = 1, 0, lambda: 1
    try:
        results([a_spec(seed=seed) for seed in range(2)], "cpu")
    except UsageError as error:
        print(error)
"""
FROM_A_PIPE = """
    from concurrent.futures import BrokenExecutor
    from lsnc_core.runs.pool import LocalPool

    if __name__ == "__main__":
        pool = LocalPool(1)
        try:
            pool.submit(print).result()
        except BrokenExecutor as error:
            print(pool.explain(error, "a block"))
"""
FROM_ELSEWHERE = """
    import os
    from lsnc_core.runs.pool import LocalPool

    def find(report):
        import torch
        return torch.__file__, os.environ["OF_THIS_SCRIPT"]

    if __name__ == "__main__":
        os.environ["OF_THIS_SCRIPT"] = "passed on"
        with LocalPool(1) as pool:
            print(*pool.submit(find).result())
"""


def run(*arguments, script="", folder=None):
    """What a script prints; it must end well."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        input=script,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def test_a_script_that_trains_wherever_it_is_imported_is_told(own_outputs, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(UNGUARDED))
    ended = run(script, ROOT / "tests")
    assert ended.stdout.strip() == (
        "training processes import the script that is run, and it trains: "
        'put what the script does under `if __name__ == "__main__":`.'
    )
    # nor do the training processes begin anew
    assert "Traceback" not in ended.stderr and ended.stderr.count("training 2 networks") == 1


def test_a_script_from_a_pipe_cannot_be_imported(tmp_path):
    ended = run("-", script=textwrap.dedent(FROM_A_PIPE))
    sentence = ended.stdout.strip()
    assert one_sentence(sentence) and "which must be a file, and failed with the error" in sentence
    assert "<stdin>" in ended.stderr and sentence.endswith('`if __name__ == "__main__":`.')


def test_training_processes_import_and_know_what_this_process_does(tmp_path):
    """Not what has the same name in the working directory, and with today's environment."""
    folder, script = tmp_path / "working directory", tmp_path / "script.py"
    folder.mkdir()
    for name in ("torch", "numpy", "lsnc_core"):
        (folder / f"{name}.py").write_text("raise RuntimeError('not this one')\n")
    script.write_text(textwrap.dedent(FROM_ELSEWHERE))
    ended = run(script, folder=folder)
    file, word = ended.stdout.split(maxsplit=1)
    assert file == torch.__file__ and word.strip() == "passed on" and ended.stderr == ""


def sleep(seconds, report):
    time.sleep(seconds)
    return Arrays()


class Arrays:
    """Stands for what a block brings back."""


def test_a_pool_names_and_ends_its_own_processes_and_keeps_no_result():
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(300,))
    with LocalPool(1) as pool:
        other.start()  # after the pool was made
        future = pool.submit(sleep, 0)
        result = weakref.ref(future.result(timeout=300))
        del future
        gc.collect()
        assert result() is None
        hanging = pool.submit(sleep, 300)
        while pool.trainer(hanging).endswith("of this run"):  # until it has begun
            pool.reports()
            time.sleep(0.01)
        (process,) = set(multiprocessing.active_children()) - {other}
        assert pool.trainer(hanging) == f"the training process {process.pid}"
        pool.stop([hanging])
        assert hanging.exception(timeout=60) is not None
    assert multiprocessing.active_children() == [other] and other.is_alive()
    other.kill()
    other.join()
