#!/usr/bin/env bash
# setup.sh build|asan|cross|net|demo: install what a step needs, by name from the machine's own package archive; nothing
# that is there already. net also makes out/venv with the Python packages of tests/net/requirements.txt, cross makes
# out/zig, the compiler for other processors (a Python package, too).
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "setup: $*" >&2; exit 1; }

# what a step needs: command (or file) and the package that brings it
build_needs="gcc:gcc make:make musl-gcc:musl-tools cmake:cmake autoreconf:autoconf aclocal:automake libtoolize:libtool
	pkg-config:pkg-config protoc-c:protobuf-c-compiler protoc:protobuf-compiler
	python3:python3 xz:xz-utils patch:patch /usr/include/linux/if_tun.h:linux-libc-dev
	/usr/include/stdio.h:libc6-dev"
# sources come from the package archive unless the user gives them
[ -n "${DEPS_DIR:-}" ] || build_needs="$build_needs dpkg-source:dpkg-dev"
asan_needs="clang:clang"
cross_needs="qemu-aarch64:qemu-user llvm-objcopy:llvm"
zig_version=0.17.1
demo_needs="ip:iproute2 ping:iputils-ping curl:curl iperf3:iperf3"

missing() { # missing NEED...: the packages of those that are not there
	local need
	for need in "$@"; do
		case $need in
		/*) [ -e "${need%%:*}" ] || echo "${need#*:}" ;;
		*) command -v "${need%%:*}" >/dev/null 2>&1 || echo "${need#*:}" ;;
		esac
	done
}

install_packages() { # install_packages PACKAGE...
	local log=out/log/apt.log
	[ $# -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || die "missing: $*; run this once as root, or install them"
	command -v apt-get >/dev/null || die "missing: $*; there is no apt-get here, install what brings them"
	mkdir -p out/log
	echo "setup: installing $*"
	export DEBIAN_FRONTEND=noninteractive
	apt_install "$@" >"$log" 2>&1 && return 0
	# lists missing or old: read them and try again
	apt-get -o DPkg::Lock::Timeout=600 update >>"$log" 2>&1 || true
	apt_install "$@" >>"$log" 2>&1 && return 0
	tail -5 "$log" | sed 's/^/    /' >&2
	die "cannot install $* (network? package archive?), log $log"
}
apt_install() { apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@"; }

lines() { # lines FILE: without comments and empty lines
	[ ! -f "$1" ] || sed 's/#.*//' "$1" | tr -s '[:space:]' '\n' | sed '/^$/d'
}

net() {
	local p want=() venv=out/venv req=tests/net/requirements.txt print log=out/log/pip.log
	for p in $(lines tests/net/packages.txt); do
		# command:package is content with the command, wherever it came from
		if [[ $p == *:* ]]; then
			# shellcheck disable=SC2207 # a word or nothing
			want+=($(missing "$p"))
			continue
		fi
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || want+=("$p")
	done
	python3 -c 'import ensurepip, venv' 2>/dev/null || want+=(python3 python3-venv)
	install_packages "${want[@]}"
	[ -f "$req" ] || return 0
	print=$(python3 --version && cat "$req")
	[ "$(cat "$venv/.made" 2>/dev/null)" != "$print" ] || return 0
	mkdir -p out/log
	echo "setup: python packages for tests/net"
	rm -rf "$venv"
	if ! { python3 -m venv "$venv" && "$venv/bin/pip" install -q -r "$req"; } >"$log" 2>&1; then
		tail -5 "$log" | sed 's/^/    /' >&2
		die "cannot install the packages of $req (network?), log $log"
	fi
	echo "$print" >"$venv/.made"
}

cross() {
	local want log=out/log/pip.log
	# shellcheck disable=SC2046,SC2086 # lists of words
	install_packages $(missing $cross_needs | sort -u)
	[ "$(cat out/zig/.made 2>/dev/null)" != "$zig_version" ] || return 0
	want=$(python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3 python3-venv)
	# shellcheck disable=SC2086
	install_packages $want
	mkdir -p out/log
	echo "setup: zig $zig_version"
	rm -rf out/zig
	if ! { python3 -m venv out/zig && out/zig/bin/pip install -q "ziglang==$zig_version"; } >"$log" 2>&1; then
		tail -5 "$log" | sed 's/^/    /' >&2
		die "cannot install ziglang $zig_version (network?), log $log"
	fi
	echo "$zig_version" >out/zig/.made
}

# shellcheck disable=SC2046,SC2086 # lists of words
case ${1:-} in
build) install_packages $(missing $build_needs | sort -u) ;;
asan)
	install_packages $(missing $asan_needs | sort -u)
	# the sanitizers' run-time libraries are a package of their own, named after clang's version
	rt=$(clang -print-file-name="libclang_rt.asan-$(uname -m).a" 2>/dev/null)
	case $rt in
	/*) ;;
	*) install_packages "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev" ;;
	esac
	;;
cross) cross ;;
net) net ;;
demo) install_packages $(missing $demo_needs | sort -u) ;;
*) die "usage: setup.sh build|asan|cross|net|demo" ;;
esac
