#!/usr/bin/env bash
# Installs the Python clients into a cache outside the repository and runs the suite.
# Needs ONCELOG_BIN (a broker binary) or BOOTSTRAP (a running broker); arguments pick scenarios by part of their name.
set -euo pipefail
cd "$(dirname "$0")"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/oncelog-clients/python-$(sha256sum requirements.txt | cut -c1-12)"
if [ ! -e "$cache/installed" ]; then
    python3 -m venv "$cache"
    "$cache/bin/pip" install --quiet --only-binary :all: -r requirements.txt
    touch "$cache/installed"
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$cache/bin/python" suite.py "$@"
