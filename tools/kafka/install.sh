#!/usr/bin/env bash
# Copies the jars of the Apache Kafka that pom.xml names into .cache/kafka/libs, unless they are there already.
# Needs Java 17 or newer and mvn, and takes half a minute the first time. The tests start a broker from them
# (tests/lab/conftest.py).
set -euo pipefail
cd "$(dirname "$0")"
kafka=../../.cache/kafka

if cmp --silent pom.xml "$kafka/pom.xml"; then
    exit 0
fi
for tool in java mvn; do
    if ! command -v "$tool" > /dev/null; then
        echo "tools/kafka/install.sh: there is no $tool; install Java 17 or newer and Maven (on Debian: apt-get install maven)" >&2
        exit 1
    fi
done

# Elsewhere first, so that a download that breaks off is not taken for a Kafka.
new="$kafka.new"
rm -rf "$new"
mkdir -p "$new"
mvn --quiet --batch-mode --strict-checksums -Dstyle.color=never dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$PWD/$new/libs"
cp pom.xml "$new/pom.xml"
rm -rf "$kafka"
mv "$new" "$kafka"
echo "Apache Kafka is in .cache/kafka" >&2
