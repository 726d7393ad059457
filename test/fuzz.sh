#!/bin/sh
# Fuzzes every parser, two at a time: what comes off the network and out of package databases longest. It begins with the
# committed seeds alone (f.Add, testdata/fuzz), not with what an earlier run found, so that each run is like the other.
# A finding is written to testdata/fuzz beside the test and fails it from then on. Usage: fuzz.sh [PERCENT of the time]
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
percent=${1:-100}

# targets: seconds, package, fuzz test.
targets() {
	cat <<-END
		60 ./host/internal/name/answer FuzzDNS
		60 ./host/internal/name/hello FuzzTLS
		60 ./host/internal/name/hello FuzzQUIC
		60 ./host/internal/packages FuzzParsers
	END
	# The others read what a person or this program wrote.
	grep -rno --include='*_test.go' '^func Fuzz[A-Za-z]*' host sdk plugins | sort |
		sed -n 's|^\(.*\)/[^/]*:[0-9]*:func \(.*\)|15 ./\1 \2|p' | grep -v -w 'FuzzDNS\|FuzzTLS\|FuzzQUIC\|FuzzParsers'
}

# fuzz SECONDS PACKAGE TARGET DIRECTORY. Making interesting inputs smaller is bounded: by itself it takes up to a minute
# for each, which is all there is.
fuzz() {
	out=$4/$3.log
	if "$go" test -c -fuzz="^$3\$" -o "$4/$3.test" "$2" >"$out" 2>&1 &&
		(cd "$2" && "$4/$3.test" -test.run='^$' -test.fuzz="^$3\$" -test.fuzztime="$1s" -test.parallel=1 \
			-test.fuzzminimizetime=500ms -test.fuzzcachedir="$4/$3.corpus") >>"$out" 2>&1; then
		echo "ok $3 ($2): $(grep 'execs:' "$out" | tail -n 1)"
		return
	fi
	cat "$out"
	echo "FAIL $3 ($2)"
	return 1
}

if [ $# -eq 4 ]; then
	fuzz "$@"
	exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
targets | while read -r seconds package target; do
	echo "$((seconds * percent / 100 > 0 ? seconds * percent / 100 : 1)) $package $target $work"
done | xargs -L 1 -P 2 test/fuzz.sh
