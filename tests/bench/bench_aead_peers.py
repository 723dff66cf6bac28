#!/usr/bin/env python3
"""Our packet ciphers beside the machine's libcrypto (through EVP, one message at a time) and libsodium, if it has
them: nanoseconds per message, sealing, and how many times as fast as libsodium. libcrypto is measured once as it is
and once without AVX-512, which is the yardstick of our AVX2 kernel."""
import os
import pathlib
import platform
import re
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]
SIZES = (64, 512, 1424)
# AVX-512 F, DQ, IFMA, BW and VL: bits of the second word (OPENSSL_ia32cap(3))
NO_AVX512 = {"OPENSSL_ia32cap": ":~0xc0230000"}


def peers(program, env, rename):
    out = subprocess.run([program], env={**os.environ, **env}, check=True, capture_output=True, text=True).stdout
    rows = {}
    for line in out.splitlines():
        name, size, ns = line.split()
        rows.setdefault(rename.get(name, name), {})[int(size)] = float(ns)
    return rows


def ours():
    bench = TOP / "out" / platform.machine() / "test/bench/wg_aead_bench"
    out = subprocess.run([bench], check=True, capture_output=True, text=True).stdout
    rows = {}
    for name, size, many in re.findall(r"^(\w+) +(\d+) +(\d+) ns", out, re.M):
        rows.setdefault(f"our {name}", {})[int(size)] = float(many)
    return rows


def main():
    program = TOP / "out/bench/aead_peers"
    program.parent.mkdir(parents=True, exist_ok=True)
    source = TOP / "tests/bench/peers/aead_peers.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-o", program, source, "-ldl"], check=True)
    rows = {**ours(), **peers(program, {}, {})}
    rows.update(peers(program, NO_AVX512, {"openssl": "openssl, no avx512", "libsodium": "libsodium, again"}))
    base = rows.get("libsodium") or rows["our library"]
    print(f"{'':20}" + "".join(f"{size:>10} B       " for size in SIZES))
    for name, row in rows.items():
        print(f"{name:20}" + "".join(f"{row[s]:8.0f} ns {base[s] / row[s]:5.2f}x " for s in SIZES))


main()
