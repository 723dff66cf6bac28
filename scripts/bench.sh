#!/usr/bin/env bash
# bench.sh PROGRAM...: run the benchmarks one after the other, nothing beside them: the given programs, made of
# tests/bench/*_bench.c, then tests/bench/bench_*.py, which measure whole programs and their peers (root).
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."
scripts=(tests/bench/bench_*.py)
[ $(($# + ${#scripts[@]})) -gt 0 ] || { echo "bench: tests/bench has no benchmarks" >&2; exit 1; }
for p in "$@"; do
	echo "== ${p##*/}"
	"$p"
done
[ ${#scripts[@]} -gt 0 ] || exit 0
scripts/setup.sh net
for p in "${scripts[@]}"; do
	echo "== ${p##*/}"
	out/venv/bin/python "$p"
done
