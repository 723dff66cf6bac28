#!/usr/bin/env bash
# demo.sh [--once]: a NetBird network of three machines on this one, in network namespaces made for it: a
# server and two clients, joined by a setup key. Shows their status, a ping and a short iperf3 run through the
# tunnel, then keeps running until Ctrl-C; with --once it ends by itself. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

once=
case ${1:-} in
"") ;;
--once) once=1 ;;
*) echo "demo: usage: ./build.sh demo [--once]" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "demo: network namespaces need root: run it as root" >&2; exit 1; }
[ -c /dev/net/tun ] || { echo "demo: there is no /dev/net/tun: load the tun module (modprobe tun)" >&2; exit 1; }
scripts/setup.sh demo
nestbox=$PWD/out/nestbox

net=10.77.0 prefix=nbdemo-$$ url=http://10.77.0.1:8080
work=$(mktemp -d)
pids=()
t0=$(date +%s%N)
say() { printf '\n\033[1m== %s\033[0m (%d ms)\n' "$*" $((($(date +%s%N) - t0) / 1000000)); }
in_ns() { local ns=$1; shift; ip netns exec "$prefix-$ns" "$@"; }
client() { # client a|b COMMAND...: the command line of one machine
	local ns=$1; shift
	NB_STATE_DIR=$work/$ns XDG_CONFIG_HOME=$work/$ns in_ns "$ns" "$nestbox" client --daemon-addr "unix://$work/$ns.sock" "$@"
}

cleanup() {
	trap - EXIT
	local p ns
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
	for ns in srv a b lan; do ip netns del "$prefix-$ns" 2>/dev/null || true; done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 0' INT TERM
failed() { # failed WHAT LOG
	echo "demo: $1; the end of its log:" >&2
	tail -n 15 "$2" >&2
	exit 1
}

say "three machines on one network: server $net.1, clients $net.2 and $net.3"
ip netns add "$prefix-lan"
ip -n "$prefix-lan" link add br0 type bridge
ip -n "$prefix-lan" link set br0 up
i=1
for ns in srv a b; do
	ip netns add "$prefix-$ns"
	ip -n "$prefix-$ns" link set lo up
	ip link add eth0 netns "$prefix-$ns" type veth peer name "to-$ns" netns "$prefix-lan"
	ip -n "$prefix-lan" link set "to-$ns" master br0 up
	ip -n "$prefix-$ns" addr add "$net.$i/24" dev eth0
	ip -n "$prefix-$ns" link set eth0 up
	i=$((i + 1))
done

say "starting the server: management, signal and relay in one process"
# A plain command, no function: $! must be the program itself, to be ended and measured.
ip netns exec "$prefix-srv" "$nestbox" server --data-dir "$work/srv" --listen "$net.1:8080" --external-url "$url" >"$work/srv.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do
	in_ns srv curl -fs -o "$work/instance" "$url/api/instance" && break
	kill -0 "${pids[0]}" 2>/dev/null || failed "the server ended" "$work/srv.log"
	sleep 0.05
done
[ -s "$work/instance" ] || failed "the server does not answer" "$work/srv.log"

say "creating the account (POST /api/setup)"
in_ns srv curl -fsS -X POST -H 'Content-Type: application/json' -d '{"email":"owner@example.com","password":"Demo-pass-1","name":"Owner"}' \
	"$url/api/setup" >"$work/setup" || failed "setup was refused" "$work/srv.log"
key=$(grep -o '{[^{}]*"type" *: *"reusable"[^{}]*}' "$work/setup" | sed -n 's/.*"key" *: *"\([^"]*\)".*/\1/p')
[ -n "$key" ] || failed "the answer holds no reusable setup key" "$work/setup"

for ns in a b; do
	mkdir -p "$work/$ns"
	NB_STATE_DIR=$work/$ns ip netns exec "$prefix-$ns" "$nestbox" client service run --daemon-addr "unix://$work/$ns.sock" \
		--log-file console >"$work/$ns.log" 2>&1 &
	pids+=($!)
done
for ns in a b; do
	for _ in $(seq 100); do [ -S "$work/$ns.sock" ] && break; sleep 0.02; done
	[ -S "$work/$ns.sock" ] || failed "client $ns did not start" "$work/$ns.log"
done
say "netbird up --setup-key on both clients"
client a up --management-url "$url" --setup-key "$key" --hostname alpha &
first=$!
client b up --management-url "$url" --setup-key "$key" --hostname bravo || failed "client b could not join" "$work/b.log"
wait "$first" || failed "client a could not join" "$work/a.log"
target=$(client b status --ipv4)
for _ in $(seq 200); do in_ns a ping -q -c 1 -W 1 "$target" >/dev/null 2>&1 && break; sleep 0.02; done
say "first ping through the tunnel has arrived"
in_ns a ping -c 3 -i 0.2 "$target" || failed "no ping through the tunnel" "$work/a.log"

say "status of client a"
client a status -d

say "iperf3 through the tunnel, 3 seconds"
ip netns exec "$prefix-b" iperf3 -s -1 -B "$target" >"$work/iperf" 2>&1 &
pids+=($!)
sleep 0.3
in_ns a iperf3 -c "$target" -t 3 -f m | tail -n 4 || failed "iperf3 failed" "$work/iperf"

say "memory: $(for p in "${pids[@]:0:3}"; do sed -n 's/^VmRSS:[ \t]*//p' "/proc/$p/status"; done | paste -sd, | sed 's/,/, /g') (server, client a, client b)"
[ -z "$once" ] || { echo "demo: done"; exit 0; }
cat <<TXT

Still running until Ctrl-C. Try from another shell:
  ip netns exec $prefix-a ping $target
  ip netns exec $prefix-a $nestbox client --daemon-addr unix://$work/a.sock status -d
  ip netns exec $prefix-srv curl $url/api/instance
TXT
while sleep 3600 & wait $!; do :; done
