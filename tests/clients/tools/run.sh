#!/usr/bin/env bash
# Runs the scenarios with Kafka's command line tools, which are part of the Java suite: run.sh [scenario ...].
set -euo pipefail
[ $# -gt 0 ] || set -- tools/
exec "$(dirname "$0")/../java/run.sh" "$@"
