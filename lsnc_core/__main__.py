"""`python -m lsnc_core` is the command behind run_all.sh."""

import runpy

runpy.run_module("lsnc_core.cli", run_name="__main__")
