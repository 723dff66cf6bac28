#!/usr/bin/env bash
# deps.sh TARGET: build the libraries of deps.versions into out/TARGET/deps/{include,lib}.
# Sources come from the machine's package archive (or DEPS_DIR) through fetch.sh; each library is built once,
# and again only when its version, recipe, compiler or flags change. Logs: out/TARGET/log/NAME.log.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
target=$1
out=$top/out/$target
deps=$out/deps
jobs=${JOBS:-$(nproc)}

if [ -L "$deps" ]; then
	echo "deps: $deps is a link, used as it is"
	exit 0
fi
[ $# -gt 1 ] || scripts/toolchain.sh "$target"
mkdir -p "$deps/include" "$deps/lib" "$deps/.stamp" "$out/log" "$out/build"

export CC=$out/tc/cc AR=$out/tc/ar RANLIB=$out/tc/ranlib
native=$(uname -m)
read -r CFLAGS <"$out/tc/flags"
fast="$CFLAGS -O2" # arithmetic-heavy libraries; the last -O wins
[ "$target" != asan ] || fast=$CFLAGS

# Recipes: run in a private copy of the source tree; put headers and archives into $deps.
headers() { install -m 644 "$@" "$deps/include/"; }
archive() { install -m 644 "$@" "$deps/lib/"; }
run_make() { make -j"$jobs" "$@"; }
configure() { # configure FLAGS ARGS...: autotools, static only
	local flags=$1 h=()
	shift
	[ "$target" = asan ] || h=(--host="$(cat "$out/tc/host")")
	CFLAGS=$flags ./configure "${h[@]}" --disable-shared --enable-static "$@"
}
cmake_static() { # cmake_static TARGET ARGS...: configure in b/ and build one target there
	local what=$1 system=()
	shift
	[ "$target" = asan ] || [ "$target" = "$native" ] || system=(-DCMAKE_SYSTEM_NAME=Linux)
	cmake -S . -B b -DCMAKE_BUILD_TYPE=None -DCMAKE_C_COMPILER="$CC" -DCMAKE_C_FLAGS="$CFLAGS" \
		-DCMAKE_AR="$AR" -DCMAKE_RANLIB="$RANLIB" -DCMAKE_TRY_COMPILE_TARGET_TYPE=EXECUTABLE \
		"${system[@]}" -DBUILD_SHARED_LIBS=OFF -DCMAKE_POLICY_VERSION_MINIMUM=3.5 "$@"
	cmake --build b -j "$jobs" --target "$what"
}

build_libsodium() {
	[ -x configure ] || autoreconf -fi
	configure "$fast" --disable-dependency-tracking
	run_make -C src
	archive src/libsodium/.libs/libsodium.a
	(cd src/libsodium/include && headers sodium.h && mkdir -p "$deps/include/sodium" &&
		install -m 644 sodium/*.h "$deps/include/sodium/")
}
build_bearssl() {
	run_make lib CC="$CC" AR="$AR" CFLAGS="$fast"
	archive build/libbearssl.a
	headers inc/*.h
}
build_nghttp2() {
	# The project asks for a C++ compiler, its library has no use for one.
	cmake_static nghttp2_static -DCMAKE_CXX_COMPILER="$CC" -DCMAKE_CXX_COMPILER_FORCED=TRUE -DENABLE_LIB_ONLY=ON -DENABLE_STATIC_LIB=ON -DENABLE_SHARED_LIB=OFF
	mkdir -p "$deps/include/nghttp2"
	install -m 644 lib/includes/nghttp2/nghttp2.h b/lib/includes/nghttp2/nghttp2ver.h "$deps/include/nghttp2/"
	archive "$(find b -name 'libnghttp2*.a')"
	[ -f "$deps/lib/libnghttp2.a" ] || mv "$deps/lib/libnghttp2_static.a" "$deps/lib/libnghttp2.a"
}
build_protobuf-c() {
	configure "$CFLAGS" --disable-protoc --disable-dependency-tracking
	run_make protobuf-c/libprotobuf-c.la
	archive protobuf-c/.libs/libprotobuf-c.a
	mkdir -p "$deps/include/protobuf-c"
	install -m 644 protobuf-c/protobuf-c.h "$deps/include/protobuf-c/"
}
build_lmdb() {
	cd "$(dirname "$(find . -name mdb.c)")"
	run_make liblmdb.a CC="$CC" AR="$AR" OPT="$CFLAGS"
	archive liblmdb.a
	headers lmdb.h
}
build_jansson() {
	cmake_static jansson -DJANSSON_BUILD_DOCS=OFF -DJANSSON_WITHOUT_TESTS=ON -DJANSSON_EXAMPLES=OFF
	archive "$(find b -name libjansson.a)"
	headers b/include/jansson.h b/include/jansson_config.h
}
build_libev() {
	configure "$CFLAGS" --disable-dependency-tracking
	run_make libev.la
	archive .libs/libev.a
	headers ev.h
}
build_zlib() {
	CFLAGS=$CFLAGS ./configure --static
	run_make libz.a
	archive libz.a
	headers zlib.h zconf.h
}
build_libyaml() {
	cmake_static yaml -DBUILD_TESTING=OFF
	archive "$(find b -name libyaml.a)"
	headers include/yaml.h
}
build_libmaxminddb() {
	cmake_static maxminddb -DBUILD_TESTING=OFF
	archive "$(find b -name libmaxminddb.a)"
	headers include/maxminddb.h include/maxminddb_config.h
}
build_miniupnpc() {
	cmake_static libminiupnpc-static -DUPNPC_BUILD_SHARED=OFF -DUPNPC_BUILD_TESTS=OFF -DUPNPC_BUILD_SAMPLE=OFF
	archive "$(find b -name libminiupnpc.a)"
	mkdir -p "$deps/include/miniupnpc"
	if [ -d include ]; then install -m 644 include/*.h "$deps/include/miniupnpc/"
	else install -m 644 ./*.h "$deps/include/miniupnpc/"; fi
}
build_llhttp() {
	local f
	# shellcheck disable=SC2086 # a list of flags
	for f in api http llhttp; do "$CC" $CFLAGS -Iinclude -c "src/$f.c" -o "$f.o"; done
	"$AR" rcs libllhttp.a api.o http.o llhttp.o
	archive libllhttp.a
	headers include/llhttp.h
}
build_cmocka() {
	# Its header guesses the type of uintptr_t wrongly where __WORDSIZE is not defined; our tests include stdint.h.
	[ "$target" = asan ] || CFLAGS="$CFLAGS -D_UINTPTR_T=1"
	cmake_static cmocka-static -DWITH_STATIC_LIB=ON -DWITH_EXAMPLES=OFF -DUNIT_TESTING=OFF
	archive "$(find b -name 'libcmocka*.a')"
	[ -f "$deps/lib/libcmocka.a" ] || mv "$deps/lib/libcmocka-static.a" "$deps/lib/libcmocka.a"
	headers include/cmocka.h
}

# fingerprint NAME VERSION: what the built library depends on, one line
fingerprint() {
	{
		echo "$2"
		declare -f "build_$1" cmake_static configure
		echo "$CFLAGS / $fast"
		cat "$out"/tc/musl-pie.specs 2>/dev/null || true
		"$CC" --version | head -1
	} | sha256sum | cut -c1-32
}

# deps.sh TARGET NAME: one recipe, in a process of its own so that the first failing command ends it.
if [ $# -gt 1 ]; then
	rm -rf "$out/build/$2" "$deps/.stamp/$2"
	cp -a "$top/out/src/$2" "$out/build/$2"
	cd "$out/build/$2"
	set -x
	"build_$2"
	exit 0
fi

build() { # build NAME FINGERPRINT
	local log=$out/log/$1.log start=$SECONDS
	if scripts/deps.sh "$target" "$1" >"$log" 2>&1 </dev/null; then
		echo "$2" >"$deps/.stamp/$1"
		rm -rf "$out/build/$1"
		printf '  %-14s %3d s\n' "$1" $((SECONDS - start))
	else
		printf '  %-14s FAILED, last lines of %s:\n' "$1" "${log#"$top"/}"
		tail -15 "$log" | sed 's/^/    /'
		return 1
	fi
}

todo=() names=()
while read -r name _ version _; do
	case $name in '' | '#'*) continue ;; esac
	[ -z "${DEPS_DIR:-}" ] || version="from $DEPS_DIR"
	print=$(fingerprint "$name" "$version")
	[ "$(cat "$deps/.stamp/$name" 2>/dev/null)" != "$print" ] || continue
	todo+=("$name $print")
	names+=("$name")
done <scripts/deps.versions
[ ${#todo[@]} -gt 0 ] || exit 0

scripts/fetch.sh "${names[@]}"
echo "deps: building ${#todo[@]} libraries for $target, $jobs at a time (logs in ${out#"$top"/}/log)"
failed=0 running=0 start=$SECONDS
for item in "${todo[@]}"; do
	if [ "$running" -ge "$jobs" ]; then
		wait -n || failed=1
		running=$((running - 1))
	fi
	[ "$failed" = 0 ] || break
	# shellcheck disable=SC2086 # name and fingerprint are two arguments
	build $item &
	running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
	wait -n || failed=1
	running=$((running - 1))
done
[ "$failed" = 0 ] || { echo "deps: a library did not build (above)" >&2; exit 1; }
echo "deps: done in $((SECONDS - start)) s"
