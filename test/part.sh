#!/bin/sh
# Runs a command as a part of the tests. PARTS=file gets a line with its name and the seconds that it took, also when it
# failed; .ci/run compares them with its budget. $PARTS.why gets what failed in it. Usage: part.sh NAME COMMAND...
name=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "== $name"
started=$(date +%s)
{
	"$@"
	echo $? >"$work/code"
} 2>&1 | tee "$work/log"
code=$(cat "$work/code" 2>/dev/null || echo 1) # none if it was killed
[ -n "${PARTS:-}" ] || exit "$code"
echo "$name $(($(date +%s) - started))" >>"$PARTS"
# The last words of a part are far from what went wrong in it; who sees only the end of it all must be told.
[ "$code" -eq 0 ] || {
	echo "$name failed with exit code $code:"
	grep -aE '^ *--- FAIL|^panic: |^WARNING: DATA RACE|^test-kernels: |^FAIL|^[^ ]+\.go:[0-9]+:[0-9]+: ' "$work/log" | head -n 12 | cut -c -160
} >>"$PARTS.why"
exit "$code"
