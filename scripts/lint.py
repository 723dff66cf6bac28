#!/usr/bin/env python3
"""lint.py [OBJECTS] - rules the compiler cannot see. Exit status 1 if a rule is broken.

  * includes point down (the table below is the folder table of the README)
  * libev, LMDB, libsodium and BearSSL are each seen by one folder only
  * protocol cores and programs call no clock and no socket
  * external symbols carry the prefix of their folder (looked up in the objects under OBJECTS, if given)
  * no notes to self left behind, no white space at the end of a line, no line far over 100 columns
"""
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent

CORES = {"wg", "filter", "ice", "dns", "grpc", "web", "store"}
PROGRAMS = {"client", "mgmt", "idp", "signal", "relay"}
BELOW_CORES = {"base", "crypto", "proto"}

# folder -> folders whose headers it may include, beside its own
MAY = {"base": set(), "crypto": {"base"}, "os": {"base"}, "proto": {"base", "crypto"}}
MAY.update({core: BELOW_CORES for core in CORES})
MAY["store"] = BELOW_CORES | {"os"}
MAY.update({program: BELOW_CORES | CORES for program in PROGRAMS})
MAY["run"] = BELOW_CORES | CORES | PROGRAMS | {"os"}
MAY["applets"] = MAY["run"] - {"os"} | {"run"}
MAY[""] = {"base", "applets"}  # src/main.c

# folder -> what its external symbols start with; others start with the folder's name and _
PREFIXES = {"base": ("nb_",), "crypto": ("nbc_",), "ice": ("ice_", "stun_", "turn_")}
NO_PREFIX = {"", "proto", "applets"}

# library header -> the folders that may include it
OWNERS = [
    (re.compile(r"^ev(\+\+)?\.h$"), {"run"}),
    (re.compile(r"^lmdb\.h$"), {"store"}),
    (re.compile(r"^sodium(\.h|/.*)$"), {"crypto"}),
    (re.compile(r"^bearssl.*\.h$"), {"crypto"}),
]
# headers that only the folders which do input and output may include
IO_HEADERS = re.compile(r"^(sys/(socket|epoll|timerfd|eventfd|signalfd|ioctl|select|un)|poll|netdb|pthread|net/if)\.h$")
CLOCKS = re.compile(r"(?<![\w.>])(clock_gettime|gettimeofday|time|nanosleep|usleep|sleep)\s*\(")
PURE = CORES | PROGRAMS | {"proto"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
NOTE = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")
CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
TEXT = {".c", ".h", ".py", ".sh", ".proto", ".js", ".css", ".html", ".md", ".txt", ""}

problems = []


def say(path, line, what):
    problems.append(f"{path.relative_to(TOP)}:{line}: {what}")


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def blank(match):
    """Replace a comment or literal by spaces, keeping the lines."""
    return re.sub(r"[^\n]", " ", match.group())


def check_include(path, folder, quoted, name, line):
    if quoted:
        target = name.split("/")[0] if "/" in name else None
        if target is None:
            say(path, line, f'write "{name}" with its folder')
        elif target not in MAY:
            say(path, line, f'"{name}" is in no folder of src')
        elif target != folder and target not in MAY[folder]:
            say(path, line, f"src/{folder or 'main.c'} must not include {name}: includes point down")
        return
    for pattern, folders in OWNERS:
        if pattern.match(name) and folder not in folders:
            say(path, line, f"<{name}> belongs to src/{' and src/'.join(sorted(folders))} only")
    if folder in PURE and folder != "store" and IO_HEADERS.match(name):
        say(path, line, f"<{name}>: src/{folder} does no input or output")


def check_source(path):
    folder = path.parent.relative_to(TOP / "src").as_posix()
    folder = "" if folder == "." else folder
    if folder not in MAY:
        say(path, 1, f"src/{folder} is not in the folder table (scripts/lint.py)")
        return
    text = path.read_text()
    for match in INCLUDE.finditer(text):
        check_include(path, folder, match.group(1) == '"', match.group(2), line_of(text, match.start(1)))
    if folder in PURE:
        code = CODE.sub(blank, text)
        for match in CLOCKS.finditer(code):
            say(path, line_of(code, match.start()), f"{match.group(1)}(): time is an argument here")


def check_symbols(objects):
    """One binary is one name space."""
    found = {}
    for path in sorted((TOP / "src").glob("*/*.c")):
        built = objects / path.relative_to(TOP).with_suffix(".o")
        if path.parent.name not in NO_PREFIX and built.is_file():
            found[str(built)] = path
    if not found:
        return
    out = subprocess.run([os.environ.get("NM", "nm"), "-gA", "--defined-only", *found], check=True, capture_output=True)
    for line in out.stdout.decode().splitlines():
        built, _, rest = line.rpartition(":")
        path, symbol = found[built], rest.split()[-1]
        folder = path.parent.name
        prefixes = PREFIXES.get(folder, (folder + "_",))
        if not symbol.startswith(prefixes):
            say(path, 1, f"{symbol} is external and does not start with {' or '.join(prefixes)}")


def check_text(path):
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            say(path, number, "white space at the end of the line")
        if NOTE.search(line):
            say(path, number, "a note to self: do it or file it")
        if path.suffix in (".c", ".h") and len(line.expandtabs(8)) > 140:
            say(path, number, "line is far longer than 100 columns")


def listed():
    """Files of the tree: tracked or new, not ignored."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(command, cwd=TOP, check=True, capture_output=True).stdout.decode()
        return [TOP / name for name in names.split("\0") if name and (TOP / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        pass  # no git, or no repository: take what is there
    return [p for p in TOP.rglob("*") if p.is_file() and p.relative_to(TOP).parts[0] not in ("out", ".git")]


def main():
    for path in sorted(listed()):
        parts = path.relative_to(TOP).parts
        if parts[0] == "src" and path.suffix in (".c", ".h"):
            check_source(path)
        vectors = parts[0] == "tests" and ("vectors" in parts or "corpus" in parts)
        if path.suffix in TEXT and not vectors and not path.is_symlink():
            check_text(path)
    if len(sys.argv) > 1:
        check_symbols(pathlib.Path(sys.argv[1]))
    for problem in problems:
        print(problem)
    if problems:
        print(f"lint: {len(problems)} problems", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
