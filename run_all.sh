#!/usr/bin/env bash
# Run the companion: find or make the Python environment, then start lsnc_core.cli.
set -euo pipefail

if ! command -v python3 >/dev/null; then
    echo "run_all.sh: python3 was not found; install Python 3.11, 3.12, 3.13 or 3.14." >&2
    exit 1
fi
folder='import os, sys; print(os.path.dirname(os.path.realpath(sys.argv[1])))'
root=$(python3 -c "$folder" "${BASH_SOURCE[0]}")

how=""
for argument in "$@"; do
    case $argument in
        -h | --help) how="--plain" ;; # the help needs no packages
        --offline) export LSNC_OFFLINE=1 ;;
    esac
done
python=$(python3 "$root/lsnc_core/bootstrap.py" ${how:+"$how"})

if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then
    # importing takes twice as long without bytecode: it goes to the caches, not beside the sources
    unset PYTHONDONTWRITEBYTECODE
    caches=${LSNC_OUTPUTS:-$root/outputs}/cache
    export PYTHONPYCACHEPREFIX="${PYTHONPYCACHEPREFIX:-$caches/bytecode}"
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -P -m lsnc_core.cli "$@" # -P: do not search the working directory for modules
