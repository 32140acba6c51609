#!/usr/bin/env bash
# Runs the Java scenarios: run.sh [scenario ...], each argument a scenario or the beginning of its name.
# Without arguments: all but tools/. Environment: ONCELOG_BIN or BOOTSTRAP; see ../README.md.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p target
# The class path is resolved anew only when the pom changes: Maven takes longer than most scenarios.
if [ ! -s target/classpath ] || [ pom.xml -nt target/classpath ]; then
  mvn -q -B dependency:build-classpath -Dmdep.outputFile="$PWD/target/classpath.new"
  mv target/classpath.new target/classpath
fi
classpath="target/classes:$(cat target/classpath)"
if [ ! -f target/compiled ] || [ -n "$(find src -newer target/compiled -name '*.java' -print -quit)" ]; then
  rm -rf target/classes
  javac --release 17 -proc:none -Xlint:-removal -XDsuppressNotes -d target/classes -cp "$classpath" $(find src -name '*.java')
  touch target/compiled
fi
exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx768m \
  -Dorg.slf4j.simpleLogger.defaultLogLevel="${LOG_LEVEL:-off}" -Dorg.slf4j.simpleLogger.showDateTime=true \
  -cp "$classpath" oncelog.Main "$@"
