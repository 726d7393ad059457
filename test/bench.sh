#!/bin/sh
# Measures. docs/performance.md explains the figures; quiet machines give better ones.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
echo "== BPF programs: ns per call, net of an empty program in the same run"
$go test -run '^$' -bench ProgramCost -benchtime 200000x ./host/internal/capture | grep -E '^Benchmark|^cpu'
echo "== a daemon with its sqlite plugin"
$go run ./test/bench -bin bin/picosnitch
echo "== stages"
$go test -run '^$' -bench . ./host/internal/journal ./host/internal/record ./sdk ./plugins/sqlite/internal/store | grep -E '^Benchmark'
