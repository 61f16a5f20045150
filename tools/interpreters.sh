#!/usr/bin/env bash
# Runs the fast tests on every newer Python there is, each in an environment of its own below .cache.
# Usage: tools/interpreters.sh [3.12 3.13 ...]
set -euo pipefail
cd "$(dirname "$0")/.."

ran=0
for version in ${*:-3.12 3.13 3.14 3.15}; do
    python=""
    # On the PATH, or kept by pyenv, whose shims are there for interpreters that are not chosen, too.
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        if "$candidate" -c '' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        continue
    fi
    # One that the project itself runs on already has nothing to add.
    if [ "$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$version" ]; then
        continue
    fi
    home=".cache/python$version"
    echo "== Python $version"
    if ! cmp --silent requirements/dev.txt "$home/dev.txt"; then
        rm -rf "$home"
        "$python" -m venv "$home"
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e lab
        cp requirements/dev.txt "$home/dev.txt"
    fi
    # What starts servers and pods, and what reads documents, has nothing to learn from another interpreter.
    "$home/bin/python" -m pytest -q -m "not lab and not server" --ignore tests/lab \
        --ignore tests/test_benchmarks.py --ignore tests/test_docs.py --ignore tests/test_packaging.py
    ran=$((ran + 1))
done
echo "newer interpreters tested: $ran"
