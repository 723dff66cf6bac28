#!/usr/bin/env bash
# run-fuzz.sh SECONDS PROGRAM...: run each fuzz harness for so long, starting from tests/fuzz/corpus/NAME.
# What it finds by itself is kept in out/fuzz/corpus/NAME; an input that breaks something goes to
# out/fuzz/crash/NAME-* and belongs into tests/fuzz/corpus/NAME together with the fix.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
seconds=$1
shift
[ $# -gt 0 ] || { echo "fuzz: tests/fuzz has no *_fuzz.c" >&2; exit 1; }
passed=0 failed=0
for p in "$@"; do
	name=$(basename "$p")
	seeds=tests/fuzz/corpus/$name
	found=out/fuzz/corpus/$name
	log=out/fuzz/$name.log
	mkdir -p "$found" out/fuzz/crash
	[ -d "$seeds" ] || { echo "  $name: no seeds in $seeds"; failed=$((failed + 1)); continue; }
	if "$p" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="out/fuzz/crash/$name-" "$found" "$seeds" >"$log" 2>&1 </dev/null; then
		passed=$((passed + 1))
		printf '  %-24s %s runs\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
	else
		failed=$((failed + 1))
		echo "  FAILED  $name, log $log:"
		tail -40 "$log" | sed 's/^/    /'
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
