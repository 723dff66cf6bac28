#!/usr/bin/env bash
# check-net.sh [PYTEST ARGUMENT...]: run tests/net, real programs in network namespaces. Needs root.
# Packages it needs are named in tests/net/packages.txt and tests/net/requirements.txt and installed here.
# NB_SOAK=1 in the environment asks the tests for their full lengths. The sums go to out/check-net.result.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
result=out/check-net.result
xml=out/check-net.xml
rm -f "$result" "$xml"
if [ -z "$(find tests/net -name 'test_*.py' -print -quit 2>/dev/null)" ]; then
	echo "check-net: tests/net has no tests"
	echo "0 0 0" >"$result"
	exit 0
fi
[ "$(id -u)" = 0 ] || { echo "check-net: network namespaces need root: run it as root" >&2; exit 1; }
scripts/setup.sh net || exit 1
python=out/venv/bin/python
[ -x "$python" ] || { echo "check-net: name pytest in tests/net/requirements.txt" >&2; exit 1; }
# Clocks of shared machines stall: what fails is run once more, and the report says so.
[ $# -gt 0 ] || set -- -q -ra --reruns 1 tests/net
rc=0
"$python" -m pytest --junitxml="$xml" -p no:cacheprovider "$@" || rc=$?
"$python" - "$xml" "$rc" >"$result" <<'EOF'
import sys
import xml.etree.ElementTree as tree
try:
    suites = list(tree.parse(sys.argv[1]).getroot().iter("testsuite"))
except (OSError, tree.ParseError):
    suites = []
n = {key: sum(int(s.get(key, 0)) for s in suites) for key in ("tests", "failures", "errors", "skipped")}
bad = n["failures"] + n["errors"]
if sys.argv[2] != "0" and bad == 0:
    bad = 1  # pytest itself failed
print(max(0, n["tests"] - n["failures"] - n["errors"] - n["skipped"]), bad, n["skipped"])
EOF
exit $rc
