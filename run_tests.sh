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

check() {
    local status=0
    "$python" -m ruff check . || status=$?
    "$python" -m ruff format --check --quiet . || status=$?
    "$python" -m mypy --no-error-summary || status=$?
    return "$status"
}
log=$(mktemp)
check >"$log" 2>&1 &
checks=$!
trap 'kill "$checks" 2>/dev/null || true; rm -f "$log"' EXIT

# the first run here finds no bytecode: one process makes it, not each of those that test
[ -d .pytest_cache ] || "$python" -m pytest --collect-only -q >/dev/null 2>&1 || true

# Many tests start processes of their own: with more of these than cores, all take a tenth longer.
workers=$("$python" -c 'import os; print(min(4, os.cpu_count() or 1))')
tests=0
"$python" -m pytest -n "$workers" --no-loadscope-reorder "$@" || tests=$?
lint=0
wait "$checks" || lint=$?
cat "$log"
if [ "$lint" -ne 0 ]; then
    echo "run_tests.sh: ruff or mypy found faults (see above; \`ruff format .\` mends the layout)."
fi
exit "$((tests ? tests : lint))"
