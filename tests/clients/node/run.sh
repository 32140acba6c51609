#!/usr/bin/env bash
# Installs the Node client kafkajs into a cache outside the repository and runs the suite.
# Needs ONCELOG_BIN (a broker binary) or BOOTSTRAP (a running broker); arguments pick scenarios by part of their name.
set -euo pipefail
cd "$(dirname "$0")"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/oncelog-clients/node-$(sha256sum package-lock.json | cut -c1-12)"
if [ ! -e "$cache/installed" ]; then
    mkdir -p "$cache"
    cp package.json package-lock.json "$cache"
    (cd "$cache" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    touch "$cache/installed"
fi
# Node looks for packages beside the program, so the program runs from the cache.
cp ./*.js "$cache"
exec node --no-warnings "$cache/suite.js" "$@"
