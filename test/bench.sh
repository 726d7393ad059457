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
"$go" test -run '^$' -bench ProgramCost -benchtime 200000x ./host/internal/capture >"$out" || { cat "$out"; exit 1; }
costs <"$out"
echo "== a daemon with its sqlite plugin"
"$go" run ./test/bench -bin bin/picosnitch
echo "== stages"
"$go" test -run '^$' -bench . ./host/internal/journal ./host/internal/supervisor ./host/internal/record ./sdk ./plugins/sqlite/internal/store | grep -E '^Benchmark'
echo "== files: SHA-256 beside sha256sum, and ten thousand programs that end at once (needs root)"
"$go" test -run '^$' -bench Digest -benchtime 9x ./host/internal/identity | grep -E '^Benchmark'
PICOSNITCH_BIN=${PICOSNITCH_BIN:-$PWD/bin/picosnitch} "$go" test -count=1 -run 'TestLab/volume/distinct-binaries' -v ./test/lab |
	sed -n 's/^ *cases_volume_test.go:[0-9]*: //p'
echo "== servers: rows stored"
"$go" test -run '^$' -bench Apply ./plugins/sqlserver/internal/store | grep -E '^Benchmark'
# Ten million rows over 30 days take some minutes to make.
rows=${PICOSNITCH_BENCH_ROWS:-10000000}
echo "== history: questions over $rows rows"
PICOSNITCH_BENCH_ROWS=$rows "$go" test -run '^$' -v -bench Query -benchtime 3x -timeout 60m ./plugins/sqlite/internal/store |
	grep -E '^Benchmark'
