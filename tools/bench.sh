#!/usr/bin/env bash
# What a guarded call costs, on every Python there is from the project's own on, beside other libraries; and what is
# known to go wrong with them, on the project's own. Each in an environment of its own below .cache.
# Usage: tools/bench.sh [cost] [scenarios] [--write] [--rounds N]
set -euo pipefail
cd "$(dirname "$0")/.."

what=()
options=()
for argument in "$@"; do
    case $argument in
        cost | scenarios) what+=("$argument") ;;
        *) options+=("$argument") ;;
    esac
done

bench() { # version python [cost] [scenarios]
    local home=".cache/bench-$1" python=$2
    shift 2
    if ! cmp --silent requirements/bench.txt "$home/bench.txt"; then
        echo "== installing what shoal is compared with into $home" >&2
        rm -rf "$home"
        "$python" -m venv "$home"
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
        cp requirements/bench.txt "$home/bench.txt"
    fi
    echo "== $("$home/bin/python" --version)" >&2
    PYTHONPATH=src "$home/bin/python" -m benchmarks "$@" "${options[@]}"
}

own=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
bench "$own" .venv/bin/python "${what[@]}"

# How guards behave does not depend on the version, but for one scenario that older Pythons get wrong.
if [ "${what[*]}" = scenarios ]; then
    exit
fi
for version in 3.12 3.13 3.14 3.15; do
    # On the PATH, or kept by pyenv, whose shims are there for interpreters that are not chosen, too.
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        if [ "$version" != "$own" ] && "$candidate" -c '' 2>/dev/null; then
            bench "$version" "$candidate" cost
            break
        fi
    done
done
