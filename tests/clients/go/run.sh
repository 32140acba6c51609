#!/usr/bin/env bash
# Builds the suite for the Go client franz-go into a cache outside the repository and runs it.
# Needs ONCELOG_BIN (a broker binary) or BOOTSTRAP (a running broker); arguments pick scenarios by part of their name.
set -euo pipefail
cd "$(dirname "$0")"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/oncelog-clients/go"
mkdir -p "$cache"
go build -o "$cache/suite" .
exec "$cache/suite" "$@"
