#!/bin/sh
# The mix of stock NetBird and nestbox programs, in network namespaces of its own (root; nothing is built or fetched):
#   scripts/stock-mix.sh --stock DIR [--only REGEX] [--list] [--keep]
# DIR has netbird and netbird-server; netbird-mgmt, netbird-signal and netbird-relay add rows. out/nestbox must be built.
# Each row joins two clients, then looks at ping, connection type at both ends, loss, restarts, deletion; rows called lazy at
# peers that sleep, first packets and who tells whom to sleep.
exec python3 "$(dirname "$0")/../tests/net/stock_mix.py" "$@"
