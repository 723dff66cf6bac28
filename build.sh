#!/usr/bin/env bash
# build.sh: everything from a fresh Debian machine (as root) to a tested program.
#   ./build.sh              build out/nestbox
#   ./build.sh deps         only the third-party libraries, into out/TARGET/deps
#   ./build.sh test         unit tests, then real programs in network namespaces
#   ./build.sh demo [--once]   a network of three machines in namespaces
#   ./build.sh asan|fuzz|lint|bench|soak
#   ./build.sh cross        build and test for every other processor, in its emulator
# TARGET=aarch64, armv7, mips, mipsel or riscv64 before a step makes out/TARGET/nestbox for that processor.
# Installs the packages it needs by name, fetches the libraries' sources with the machine's own package manager
# (versions: scripts/deps.versions) and builds them once. DEPS_DIR=/path takes unpacked sources from there.
set -euo pipefail
cd "$(dirname "$0")"
target=${TARGET:-$(uname -m)}

deps() { # deps TARGET
	scripts/setup.sh build
	case $1 in
	"$(uname -m)") ;;
	asan) scripts/setup.sh asan ;;
	*) scripts/setup.sh cross ;;
	esac
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
	if [ "$target" = "$(uname -m)" ]; then
		make -s check-net || rc=1
		report out/check-net.result
	fi
	[ "$failed" = 0 ] || rc=1
	echo "all tests, $SECONDS s:"
	if [ "$skipped" -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"
	else echo "$passed passed, $failed failed"; fi
	return $rc
}

case ${1:-build} in
build)
	program
	file=out/nestbox
	[ "$target" = "$(uname -m)" ] || file=out/$target/nestbox
	echo "$file is ready: $(stat -c %s "$file") bytes, static"
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
cross)
	for t in $(make -s cross-targets); do deps "$t"; done
	make -s check-cross
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
