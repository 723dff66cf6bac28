#!/usr/bin/env bash
# fetch.sh NAME...: put the unpacked source of each library of deps.versions into out/src/NAME.
# The package manager finds, downloads and verifies them: its own source list is derived here, for this run,
# from the machine's entries, with deb-src added. DEPS_DIR=/path uses /path/NAME or /path/NAME-VERSION instead.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
mkdir -p out/src out/dl

die() { echo "fetch: $*" >&2; exit 1; }

from_dir() { # from_dir NAME: use unpacked sources given by the user
	local dir
	for dir in "$DEPS_DIR/$1" "$DEPS_DIR/$1"-*; do
		[ -d "$dir" ] || continue
		rm -rf "out/src/$1"
		cp -a "$dir" "out/src/$1"
		echo "from $DEPS_DIR" >"out/src/$1.version"
		return
	done
	die "DEPS_DIR has no folder $1 or $1-VERSION: unpack the sources of $1 there"
}

# --- a package manager configuration of our own, under out/apt
apt_conf() {
	local apt=$top/out/apt f n=0
	command -v apt-get >/dev/null || die "no apt-get here: unpack the sources yourself and give DEPS_DIR=/path"
	rm -rf "$apt/parts"
	mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/cache/archives/partial"
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$f" ] || continue
		n=$((n + 1))
		# one line: "deb [options] URI suite components"
		sed -n 's/^[[:space:]]*deb[[:space:]]/deb /p' "$f" | sed 'p; s/^deb /deb-src /' >"$apt/parts/$n.list"
	done
	for f in /etc/apt/sources.list.d/*.sources; do
		[ -f "$f" ] || continue
		n=$((n + 1))
		sed 's/^Types:.*/Types: deb deb-src/' "$f" >"$apt/parts/$n.sources"
	done
	[ "$n" -gt 0 ] || die "this machine has no package sources in /etc/apt: give unpacked sources with DEPS_DIR=/path"
	cat >"$apt/apt.conf" <<-EOF
		Dir::State::lists "$apt/lists";
		Dir::Cache "$apt/cache";
		Dir::Etc::sourcelist "/dev/null";
		Dir::Etc::sourceparts "$apt/parts";
		Acquire::Languages "none";
		Acquire::Retries "3";
	EOF
	# Root's helper user may not reach a private folder; signatures are verified all the same.
	[ "$(id -u)" != 0 ] || echo 'APT::Sandbox::User "root";' >>"$apt/apt.conf"
	export APT_CONFIG=$apt/apt.conf
}

apt_ready=
apt_update() {
	[ -z "$apt_ready" ] || return 0
	command -v dpkg-source >/dev/null || die "dpkg-source is missing: run ./build.sh as root, or install dpkg-dev"
	apt_conf
	echo "fetch: reading package lists"
	# A third-party source without source packages may fail; what counts is whether ours are found.
	apt-get update >out/apt/update.log 2>&1 || true
	apt_ready=1
}

offered() { # offered PACKAGE KIND: versions in the archive, newest first
	local v
	{
		if [ "$2" = src ]; then
			apt-cache showsrc --only-source "$1" 2>/dev/null | sed -n 's/^Version: //p'
		else
			apt-cache madison "$1" 2>/dev/null | awk -F'|' '{gsub(/ /, "", $2); print $2}'
		fi
	} | sort -u | while read -r v; do echo "$v"; done | sort -rV
}

download() { # download PACKAGE VERSION KIND: into the current folder
	if [ "$3" = src ]; then apt-get -qq source --download-only --only-source "$1=$2"
	else apt-get -qq download "$1=$2"; fi
}

from_archive() { # from_archive NAME PACKAGE VERSION KIND
	local name=$1 package=$2 version=$3 kind=$4 dir=$top/out/dl/$1 log=$top/out/dl/$1.log v got='' src
	[ "$(cat "out/src/$name.version" 2>/dev/null)" != "$version" ] || [ ! -d "out/src/$name" ] || return 0
	apt_update
	: >"$log"
	for v in "$version" $(offered "$package" "$kind" | grep -vxF "$version"); do
		rm -rf "$dir"
		mkdir -p "$dir"
		if (cd "$dir" && download "$package" "$v" "$kind") >>"$log" 2>&1; then
			got=$v
			break
		fi
	done
	if [ -z "$got" ]; then
		{ grep '^[EW]:' out/apt/update.log || tail -3 "$log"; } | tail -3 | sed 's/^/    /' >&2
		die "$package cannot be had from the package archive (no network, or no source packages there): try again," \
			"or unpack its sources and give DEPS_DIR=/path; logs out/apt/update.log, out/dl/$name.log"
	fi
	[ "$got" = "$version" ] || echo "fetch: $package $version is gone, using $got instead (scripts/deps.versions)"
	src=$top/out/src/$name
	rm -rf "$src" "$src.version"
	if [ "$kind" = src ]; then
		dpkg-source --no-copy -x "$dir"/*.dsc "$src" >>"$log" 2>&1 || die "$package did not unpack, see out/dl/$name.log"
	else
		dpkg-deb -x "$dir"/*.deb "$dir/x"
		mkdir -p "$src"
		# the only such package: C files and header under /usr/share
		find "$dir/x" -name '*.c' -path "*/$name/*" -exec install -D -m 644 -t "$src/src" {} +
		find "$dir/x" -name '*.h' -path "*/$name/*" -exec install -D -m 644 -t "$src/include" {} +
	fi
	rm -rf "$dir"
	echo "$version" >"$src.version"
}

for want in "$@"; do
	found=
	while read -r name package version kind; do
		[ "$name" = "$want" ] || continue
		found=1
		if [ -n "${DEPS_DIR:-}" ]; then from_dir "$name"; else from_archive "$name" "$package" "$version" "$kind"; fi
	done <scripts/deps.versions
	[ -n "$found" ] || die "scripts/deps.versions does not name $want"
done
