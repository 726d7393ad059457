#!/bin/sh
# Runs a command as a part of the tests. PARTS=file gets a line with its name and the seconds that it took, also when it
# failed; .ci/run compares them with its budget. Usage: part.sh NAME COMMAND...
name=$1
shift
echo "== $name"
started=$(date +%s)
"$@"
code=$?
[ -z "${PARTS:-}" ] || echo "$name $(($(date +%s) - started))" >>"$PARTS"
exit "$code"
