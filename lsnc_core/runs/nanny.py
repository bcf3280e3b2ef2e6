"""Ends a Dask worker with the process that started it, which holds its standard input open.

Dask loads this file by its path into the process that watches over a worker; a worker that is ended
ends with it. So this file imports nothing that takes long.
"""

import os
import sys
import threading


def dask_setup(nanny: object) -> None:
    """Called by Dask once the process has started."""
    threading.Thread(target=_end_with_starter, daemon=True).start()


def _end_with_starter() -> None:
    sys.stdin.read()
    os._exit(1)
