#!/bin/sh
# Runs every test: the packages first, then the lab alone, since its probes see the whole machine.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
$go vet ./...
$go test -timeout 20m $($go list ./... | grep -v /test/lab)
$go test -timeout 20m -v ./test/lab
