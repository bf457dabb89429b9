#!/bin/sh
# Makes constraints.txt anew from scripts/constraints.in: one file of exact versions, with markers, that
# installs on Python 3.10 to 3.13. uv comes into a venv that is thrown away.
set -eu
cd "$(dirname "$0")/.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet uv
# No index, no "via" comments: where packages were fetched from is nobody's business but the fetcher's.
"$tmp/venv/bin/uv" pip compile --quiet --universal --python-version 3.10 \
    --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
    scripts/constraints.in --output-file "$tmp/constraints.txt"
if grep -n '://' "$tmp/constraints.txt"; then
    echo "The lines above name a place and not a version; constraints.txt is left as it was." >&2
    exit 1
fi
cp "$tmp/constraints.txt" constraints.txt
echo "constraints.txt: $(grep -c '==' constraints.txt) lines. Now try it: make setup, on 3.10 and on 3.13."
