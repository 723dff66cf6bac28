#!/usr/bin/env bash
# bench.sh [--list] [--stock DIR] PROGRAM...: run the benchmarks one after the other, nothing beside them: the given programs,
# made of tests/bench/*_bench.c, then tests/bench/bench_*.py, which measure whole programs and their peers (root). At the end
# stands a table of the figures that have a peer or a goal; the exit status is 1 when a goal is missed. In the environment:
#   NB_BENCH_ONLY=NAME,...   only these figures (--list prints the names)
#   NB_BENCH_ROUNDS=3 NB_BENCH_SECONDS=6   how often and how long each is measured
#   NB_STOCK=DIR             stock NetBird binaries for the figure `stock`, as --stock
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."

list=
while [[ ${1:-} == --* ]]; do
	case $1 in
	--list) list=1 ;;
	--stock)
		export NB_STOCK=$2
		shift
		;;
	*) echo "bench: what is $1? --list, --stock DIR" >&2; exit 2 ;;
	esac
	shift
done
programs=("$@")
scripts=(tests/bench/bench_*.py)
[ $((${#programs[@]} + ${#scripts[@]})) -gt 0 ] || { echo "bench: tests/bench has no benchmarks" >&2; exit 1; }

names() { # names FILE: of its figures; a file that does not say is one
	local name=${1##*/}
	if grep -q '^from figures import' "$1" 2>/dev/null; then
		python3 "$1" --list
	else
		name=${name%.py} name=${name#bench_} name=${name%_bench}
		echo "$name"
	fi
}

wanted() { # wanted FILE
	local name
	[ -n "${NB_BENCH_ONLY:-}" ] || return 0
	for name in $(names "$1"); do
		case ,$NB_BENCH_ONLY, in *,"$name",*) return 0 ;; esac
	done
	return 1
}

if [ -n "$list" ]; then
	for p in "${programs[@]}" "${scripts[@]}"; do names "$p"; done
	exit 0
fi
if [ -n "${NB_BENCH_ONLY:-}" ]; then
	known=,$(for p in "${programs[@]}" "${scripts[@]}"; do names "$p"; done | tr '\n' ,)
	for name in ${NB_BENCH_ONLY//,/ }; do
		[[ $known == *,$name,* ]] || { echo "bench: there is no figure $name; --list names them" >&2; exit 2; }
	done
fi
for p in "${programs[@]}"; do
	wanted "$p" || continue
	echo "== ${p##*/}"
	"$p"
done
[ ${#scripts[@]} -gt 0 ] || exit 0
scripts/setup.sh net
mkdir -p out/bench
export NB_BENCH_RESULTS=$PWD/out/bench/results
: >"$NB_BENCH_RESULTS"
rc=0
for p in "${scripts[@]}"; do
	wanted "$p" || continue
	echo "== ${p##*/}"
	out/venv/bin/python "$p" || { echo "bench: ${p##*/} failed" >&2; rc=1; }
done
out/venv/bin/python tests/bench/figures.py "$NB_BENCH_RESULTS" || rc=1
exit $rc
