#!/usr/bin/env bash
# build.sh: everything from a fresh Debian machine (as root) to a tested program.
#   ./build.sh              build out/nestbox
#   ./build.sh deps         only the third-party libraries, into out/TARGET/deps
#   ./build.sh test         unit tests, then real programs in network namespaces
#   ./build.sh demo [--once]   a network of three machines in namespaces
#   ./build.sh asan|fuzz|lint|bench|soak
# Installs the packages it needs by name, fetches the libraries' sources with the machine's own package manager
# (versions: scripts/deps.versions) and builds them once. DEPS_DIR=/path takes unpacked sources from there.
set -euo pipefail
cd "$(dirname "$0")"
target=${TARGET:-$(uname -m)}

deps() { # deps TARGET
	scripts/setup.sh build
	[ "$1" != asan ] || scripts/setup.sh asan
	scripts/deps.sh "$1"
}

# A warning of a compiler we have not met is no reason to leave a user without a program.
program() {
	deps "$target"
	make -s TARGET="$target" WERROR= "$@"
}

report() { # report FILE: "passed failed skipped" of one step; one failure if it did not get so far
	local p f s
	if read -r p f s 2>/dev/null <"$1"; then
		passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	else
		failed=$((failed + 1))
	fi
}

run_tests() {
	local rc=0
	passed=0 failed=0 skipped=0
	deps "$target"
	rm -f "out/$target/test/result" out/check-net.result
	make -s TARGET="$target" check || rc=1
	report "out/$target/test/result"
	make -s TARGET="$target" check-net || rc=1
	report out/check-net.result
	[ "$failed" = 0 ] || rc=1
	echo "all tests, $SECONDS s:"
	if [ "$skipped" -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"
	else echo "$passed passed, $failed failed"; fi
	return $rc
}

case ${1:-build} in
build)
	program
	echo "out/nestbox is ready: $(stat -c %s out/nestbox) bytes, static"
	;;
deps) deps "$target" ;;
test) run_tests ;;
demo)
	shift
	program
	exec scripts/demo.sh "$@"
	;;
asan | fuzz)
	deps asan
	make -s "$@"
	;;
bench | soak)
	program "$@"
	;;
lint)
	deps "$target"
	make -s lint
	;;
-h | --help | help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" ;;
*)
	echo "build.sh: there is no step $1; ./build.sh --help lists them" >&2
	exit 2
	;;
esac
