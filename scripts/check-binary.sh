#!/usr/bin/env bash
# check-binary.sh FILE: refuse a program that is not what README promises. The tools fail silently: a compiler
# front end set up wrongly links a dynamic program without a word.
set -euo pipefail
file=$1

bad() { echo "check-binary: $file $*" >&2; exit 1; }

headers=$(readelf -hldW "$file")
has() { grep -Eq "$1" <<<"$headers"; }
has 'Type: +DYN' || bad "is not position independent"
! has 'INTERP' || bad "asks for a dynamic loader"
! has '\(NEEDED\)' || bad "asks for shared libraries"
! has '\(TEXTREL\)' || bad "has relocations in its code"
has 'GNU_RELRO' || bad "has no read-only relocations"
has 'BIND_NOW|FLAGS_1.*NOW' || bad "binds lazily"
has 'GNU_STACK.* RW ' || bad "has an executable stack"
! has 'LOAD.* RWE ' || bad "has memory that is writable and executable"
! readelf -SW "$file" | grep -Eq '\.(symtab|debug_info)' || bad "is not stripped"
readelf -SW "$file" | grep -q '\.gnu_debuglink' || bad "does not name its debug file"
# MIPS pays four bytes for each instruction and three instructions for many a call: it may have 2 MiB.
max=2000000
if has 'Machine: +MIPS'; then max=2097152; fi
size=$(stat -c %s "$file")
[ "$size" -le "$max" ] || bad "has $size bytes, more than $max"
