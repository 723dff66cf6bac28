#!/usr/bin/env bash
# toolchain.sh TARGET: make out/TARGET/tc, the compiler front end a target is built with:
#   cc      a wrapper taking gcc/clang arguments
#   flags   C flags used for the libraries (the Makefile has the project's own)
#   kernel/ links to the kernel's headers, searched after libc's own
#   ar, ranlib, nm, strip, objcopy
#   host    what configure scripts call the target
# A machine's own architecture means musl as static PIE; "asan" means clang on glibc with sanitizers; the others are
# built with zig, which brings musl and the kernel's headers for all of them (scripts/setup.sh cross).
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
tc=out/$target/tc
mkdir -p "$tc"

put() { # put FILE: replace FILE by stdin only when it differs, so that nothing is rebuilt for nothing
	cat >"$1.new"
	if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

die() { echo "toolchain: $*" >&2; exit 1; }

musl() {
	local multi musl specs dir
	multi=$(gcc -print-multiarch)
	specs=$(sed -n 's/.*-specs[ =]*"\([^"]*\)".*/\1/p' "$(command -v musl-gcc || echo /dev/null)")
	musl=${specs%/*}
	[ -f "$specs" ] || die "musl-gcc is missing: run ./build.sh as root, or install musl-tools"
	[ -f "$musl/rcrt1.o" ] || die "$musl/rcrt1.o is missing: musl 1.2 or newer is needed for static PIE"
	mkdir -p "$tc/kernel"
	for dir in linux asm-generic; do ln -sfn "/usr/include/$dir" "$tc/kernel/$dir"; done
	if [ -d "/usr/include/$multi/asm" ]; then ln -sfn "/usr/include/$multi/asm" "$tc/kernel/asm"
	else ln -sfn /usr/include/asm "$tc/kernel/asm"; fi
	# musl-gcc -static-pie silently links a dynamic program, hence a copy of its specs that says what is meant.
	sed -e "s#^%{!shared: [^}]*Scrt1.o}#$musl/rcrt1.o#" \
	    -e 's#^-dynamic-linker .*#-nostdlib -static -pie --no-dynamic-linker -z text#' \
	    "$specs" | put "$tc/musl-pie.specs"
	[ "$(grep -Ec 'rcrt1\.o|no-dynamic-linker' "$tc/musl-pie.specs")" = 2 ] ||
		die "$specs looks unlike the one this script knows (musl-tools 1.2.3)"
	put "$tc/cc" <<-'EOF'
		#!/bin/sh
		d=$(dirname "$0")
		exec gcc "$@" -specs "$d/musl-pie.specs" -idirafter "$d/kernel"
	EOF
	put "$tc/flags" <<-'EOF'
		-Os -fPIE -ffunction-sections -fdata-sections -fno-unwind-tables -fno-asynchronous-unwind-tables -fstack-protector-strong -fstack-clash-protection
	EOF
}

tools() { # tools [PREFIX]: links to the binary utilities
	local name
	for name in ar ranlib nm strip objcopy; do ln -sfn "$(command -v "${1:-}$name")" "$tc/$name"; done
}

cross() { # cross HOST ZIG-TARGET [FLAG...]
	local zig
	echo "$1" | put "$tc/host"
	shift
	zig=$(echo out/zig/lib/python3*/site-packages/ziglang/zig)
	[ -x "$zig" ] || die "zig is missing: run TARGET=$target ./build.sh as root, or scripts/setup.sh cross"
	command -v llvm-objcopy >/dev/null || die "llvm-objcopy is missing: run TARGET=$target ./build.sh as root, or install llvm"
	put "$tc/cc" <<-EOF
		#!/bin/sh
		# zig compiles libc anew for each combination of optimization and such flags that it links with: have one.
		# Some flags of gcc mean nothing on some processors.
		last=-Os
		for a; do case \$a in -c | -S | -E | -M*) last= ;; esac; done
		export ZIG_GLOBAL_CACHE_DIR="$PWD/out/zig-cache" ZIG_LOCAL_CACHE_DIR="$PWD/out/zig-cache/local"
		exec "$PWD/$zig" cc -target $* -static -Os -g -fPIE -ffunction-sections -fdata-sections \\
			-fno-unwind-tables -fno-asynchronous-unwind-tables -fstack-protector-strong -fstack-clash-protection -Wno-unused-command-line-argument "\$@" \$last
	EOF
	put "$tc/flags" <<-'EOF'
		-Os -fPIE -ffunction-sections -fdata-sections -fno-unwind-tables -fno-asynchronous-unwind-tables -fstack-protector-strong
	EOF
	tools llvm-
}

asan() {
	command -v clang >/dev/null || die "clang is missing: run ./build.sh asan as root, or install clang"
	put "$tc/cc" <<-'EOF'
		#!/bin/sh
		exec clang "$@"
	EOF
	# Libraries read words unaligned on purpose where the processor allows it.
	put "$tc/flags" <<-'EOF'
		-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize=alignment
	EOF
}

case $target in
asan)
	asan
	tools
	;;
"$(uname -m)")
	musl
	gcc -dumpmachine | sed 's/-gnu$/-musl/' | put "$tc/host"
	tools
	;;
aarch64) cross aarch64-linux-musl aarch64-linux-musl ;;
# Many routers of this kind have no floating point unit.
armv7) cross arm-linux-musleabi arm-linux-musleabi -mcpu=generic+v7a+soft_float ;;
mips) cross mips-linux-musl mips-linux-musleabi ;;
mipsel) cross mipsel-linux-musl mipsel-linux-musleabi ;;
riscv64) cross riscv64-linux-musl riscv64-linux-musl ;;
*) die "unknown target $target (known: $(uname -m), asan, aarch64, armv7, mips, mipsel, riscv64)" ;;
esac
chmod +x "$tc/cc"
