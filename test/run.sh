#!/bin/sh
# Runs every test: the packages first, then those that start database servers, then the lab alone, since its probes see
# the whole machine.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
SKIPPED=$(mktemp) # gets a line for every test that is skipped, from test/need
export SKIPPED
trap 'skipped; rm -f "$SKIPPED"' EXIT

# skipped: what was not tested here, and why.
skipped() {
	[ ! -s "$SKIPPED" ] || { echo "== skipped"; sort "$SKIPPED"; }
}

# packages: all but those that have a part of their own.
packages() {
	"$go" list ./... | grep -v -e /test/lab -e /test/chaos -e /plugins/sqlserver
}

"$go" vet ./...
# shellcheck disable=SC2046
test/part.sh unit "$go" test -timeout 20m $(packages)
[ ! -d plugins/sqlserver ] || test/part.sh servers "$go" test -timeout 15m ./plugins/sqlserver/...
test/part.sh lab "$go" test -count=1 -timeout 25m -v ./test/lab
# The same bad luck every time; make chaos tries others.
CHAOS_SEED=${CHAOS_SEED:-21}
export CHAOS_SEED
test/part.sh chaos "$go" test -count=1 -timeout 15m -v -run 'TestChaos|TestDamagedJournal' ./test/chaos
