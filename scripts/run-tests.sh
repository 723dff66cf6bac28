#!/usr/bin/env bash
# run-tests.sh OUT PROGRAM...: run test programs, several at a time, and sum up what they report.
# A program prints cmocka's lines; one that crashes, runs too long (TEST_SECONDS) or reports no test counts as a
# failure. EMULATOR, if set, is the program that runs them. Output of failing programs is shown, all of it is in OUT/test/NAME.log.
# The sums go to OUT/test/result as "passed failed skipped".
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
out=$1
shift
export TEST_SECONDS=${TEST_SECONDS:-60}
export CMOCKA_MESSAGE_OUTPUT=STDOUT
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0} UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
rm -f "$out/test/result"
[ $# -gt 0 ] || { echo "run-tests: there is no test program" >&2; exit 1; }

run_one() { # run_one PROGRAM: PROGRAM.log, and PROGRAM.sum with "passed failed skipped"
	local p=$1 rc=0 ok bad skip args=() name
	if [[ $p == *_seeds ]]; then
		name=$(basename "$p" _seeds)
		args=("tests/fuzz/corpus/$name")
	fi
	# shellcheck disable=SC2086 # a word or nothing
	timeout -k 5 "$TEST_SECONDS" ${EMULATOR:-} "$p" "${args[@]}" >"$p.out" 2>"$p.log" </dev/null || rc=$?
	# cmocka reports each test on stdout, and once more in its summary on stderr
	ok=$(grep -c '^\[       OK \]' "$p.out")
	bad=$(grep -c '^\[  FAILED  \]' "$p.out")
	skip=$(grep -c '^\[  SKIPPED \]' "$p.out")
	cat "$p.out" >>"$p.log"
	rm "$p.out"
	if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then
		echo "run-tests: stopped after $TEST_SECONDS s" >>"$p.log"
	elif [ "$rc" -gt 128 ]; then
		echo "run-tests: died by signal $((rc - 128))" >>"$p.log"
	elif [ "$rc" = 0 ] && [ $((ok + bad + skip)) = 0 ]; then
		echo "run-tests: reported no test" >>"$p.log"
		rc=1
	fi
	[ "$rc" = 0 ] || [ "$bad" -gt 0 ] || bad=1
	[ "$bad" = 0 ] || [ "$rc" != 0 ] || rc=1
	echo "$ok $bad $skip" >"$p.sum"
	if [ "$rc" != 0 ]; then
		echo "  FAILED  $p (exit $rc)"
		grep -Ev '^\[ RUN|^\[       OK|^\[={10}|^\[  PASSED' "$p.log" | tail -60 | sed 's/^/    /'
	fi
	return 0
}
export -f run_one

for p in "$@"; do rm -f "$p.sum"; done
printf '%s\n' "$@" | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'run_one {}'

passed=0 failed=0 skipped=0
for p in "$@"; do
	if read -r a b c 2>/dev/null <"$p.sum"; then
		passed=$((passed + a)) failed=$((failed + b)) skipped=$((skipped + c))
	else
		failed=$((failed + 1))
	fi
done
echo "$passed $failed $skipped" >"$out/test/result"
echo "check: $# programs"
if [ "$skipped" -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"
else echo "$passed passed, $failed failed"; fi
[ "$failed" = 0 ]
