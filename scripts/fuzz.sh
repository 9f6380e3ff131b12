#!/usr/bin/env bash
# Runs every fuzz target: scripts/fuzz.sh [INPUTS]. INPUTS is a number of inputs,
# such as 1000x, or a time, such as 10m. When a time is over, Go sometimes reports the
# input under way as a failure, "context deadline exceeded"; this does not happen with
# a number. Inputs that fail are kept in testdata/fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
inputs=${1:-1000x}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
found=$(go env GOCACHE)/fuzz # go test keeps interesting inputs there too

packages=$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u)
[ -n "$packages" ]
for package in $packages; do
	# The test binary is built once for all targets of the package. Debugging information
	# would take time to link.
	go test -c -ldflags '-s -w' -fuzz . -o "$work/fuzz.test" "$package"
	targets=$(cd "$package" && "$work/fuzz.test" -test.list '^Fuzz')
	[ -n "$targets" ]
	for target in $targets; do
		echo "fuzz $target"
		(cd "$package" && "$work/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$inputs" \
			-test.fuzzminimizetime 1x -test.timeout 5m -test.fuzzcachedir "$found/$(go list .)")
	done
done
