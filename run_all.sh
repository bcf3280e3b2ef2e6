#!/usr/bin/env bash
# Runs the companion: finds or makes the Python environment, then hands over to lsnc_core.cli (./run_all.sh --help).
set -euo pipefail

if ! command -v python3 >/dev/null; then
    echo "run_all.sh: python3 was not found; install Python 3.11, 3.12 or 3.13." >&2
    exit 1
fi
root=$(python3 -c 'import os, sys; print(os.path.dirname(os.path.realpath(sys.argv[1])))' "${BASH_SOURCE[0]}")

how=""
for argument in "$@"; do
    case $argument in
        -h | --help) how="--plain" ;; # the help needs no packages
        --offline) export LSNC_OFFLINE=1 ;;
    esac
done
python=$(python3 "$root/lsnc_core/bootstrap.py" ${how:+"$how"})

export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -P -m lsnc_core.cli "$@" # -P: the working directory is not searched for modules
