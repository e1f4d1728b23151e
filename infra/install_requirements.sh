#!/usr/bin/env bash
# Installs a requirements file and says every few seconds how far it is. The output of pip goes to a log.
# Usage: infra/install_requirements.sh PYTHON REQUIREMENTS
set -euo pipefail

readonly python=$1 requirements=$2
log="$(cd "$(dirname "$python")/.." && pwd)/pip.log"
total=$(grep -cE '^[a-zA-Z0-9]' "$requirements")

echo "Installing $total pinned packages (about 3 GB; two minutes from a near mirror). Log: $log"
"$python" -m pip install --disable-pip-version-check --progress-bar off -r "$requirements" >"$log" 2>&1 &
readonly pip=$!
trap 'kill "$pip" 2>/dev/null || true' EXIT

SECONDS=0
while kill -0 "$pip" 2>/dev/null; do
    sleep 1
    if ((SECONDS % 15 == 0)); then
        if grep -q '^Installing collected packages' "$log"; then
            echo "  ${SECONDS} s: all fetched, writing them"
        else
            echo "  ${SECONDS} s: $(grep -cE '^(Collecting|Requirement already)' "$log" || true) of $total"
        fi
    fi
done
if ! wait "$pip"; then
    tail -n 20 "$log" >&2
    echo "pip could not install $requirements; the whole log is $log" >&2
    exit 1
fi
echo "Installed in $SECONDS s"
