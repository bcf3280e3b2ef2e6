#!/usr/bin/env bash
# Checks layout and types and runs the tests, in up to four processes.
# Arguments go to pytest, e.g. ./run_tests.sh -k bootstrap.
set -euo pipefail

if ! command -v python3 >/dev/null; then
    echo "run_tests.sh: python3 was not found; install Python 3.11, 3.12, 3.13 or 3.14." >&2
    exit 1
fi
folder='import os, sys; print(os.path.dirname(os.path.realpath(sys.argv[1])))'
cd "$(python3 -c "$folder" "${BASH_SOURCE[0]}")"
python=$(python3 lsnc_core/bootstrap.py)

if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then
    # importing takes twice as long without bytecode, and many tests start processes
    unset PYTHONDONTWRITEBYTECODE
    export PYTHONPYCACHEPREFIX="${PYTHONPYCACHEPREFIX:-$PWD/outputs/cache/bytecode}"
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
export MPLBACKEND=Agg
export OMP_NUM_THREADS=1 # workers whose threads share cores wait for each other

lint=0
"$python" -m ruff check . || lint=$?
"$python" -m ruff format --check --quiet . || lint=$?
"$python" -m mypy --no-error-summary || lint=$?
if [ "$lint" -ne 0 ]; then
    echo "run_tests.sh: ruff or mypy found faults (see above; \`ruff format .\` mends the layout)."
    echo "The tests follow, and this run counts as failed."
fi

# one process more than there are cores: many tests wait for processes of their own
workers=$("$python" -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
tests=0
"$python" -m pytest -n "$workers" --no-loadscope-reorder "$@" || tests=$?
if [ "$tests" -eq 0 ]; then
    exit "$lint"
fi
exit "$tests"
