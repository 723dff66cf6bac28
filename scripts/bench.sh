#!/usr/bin/env bash
# bench.sh PROGRAM...: run the benchmark programs one after the other, nothing beside them.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { echo "bench: tests/bench has no *_bench.c yet" >&2; exit 1; }
for p in "$@"; do
	echo "== ${p##*/}"
	"$p"
done
