#!/bin/sh
# Measures, and prints the tables of docs/performance.md. Quiet machines give better figures.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# costs makes a table of what the benchmark says.
costs() {
	echo '| Call | Net ns per call | In empty runs | Runs of programs per call |'
	echo '| --- | --- | --- | --- |'
	awk '/^BenchmarkProgramCost/ {
		name = $1; sub(".*/", "", name); sub("-[0-9]*$", "", name)
		for (i = 3; i < NF; i += 2) value[$(i + 1)] = $i
		printf "| %s | %.0f | %.1f | %.1f |\n", name, value["ns/call-net"],
			value["ns/call-net"] / value["ns/run-empty"], value["runs/call"]
	}'
}

uname -r
echo "== BPF programs: all of one call together, net of an empty program in the same run"
$go test -run '^$' -bench ProgramCost -benchtime 200000x ./host/internal/capture >"$out" || { cat "$out"; exit 1; }
costs <"$out"
echo "== a daemon with its sqlite plugin"
$go run ./test/bench -bin bin/picosnitch
echo "== stages"
$go test -run '^$' -bench . ./host/internal/journal ./host/internal/record ./sdk ./plugins/sqlite/internal/store | grep -E '^Benchmark'
