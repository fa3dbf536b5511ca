#!/bin/sh
# Usage: requirements/lock.sh UV [--upgrade]: one resolution for every Python and platform, cut into the files that are installed.
set -eu
uv=$1
shift
cd "$(dirname "$0")/.."

lock() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
        --custom-compile-command 'make lock' "$@"
}

lock "$@" pyproject.toml --constraints requirements/torch.in --output-file requirements/runtime.txt
lock "$@" pyproject.toml --extra dev --constraints requirements/runtime.txt --output-file requirements/dev.txt
lock "$@" requirements/torch.in --constraints requirements/runtime.txt --output-file requirements/torch.txt
lock "$@" requirements/tools.in --output-file requirements/tools.txt
