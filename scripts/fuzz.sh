#!/usr/bin/env bash
# Runs every fuzz target: scripts/fuzz.sh [INPUTS], with so many inputs, such as
# 1000x, or for a time, such as 10m. At the end of a time a target now and then
# takes an input that was under way for a failure, "context deadline exceeded";
# a number has no such end. What fails is kept in testdata/fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
inputs=${1:-1000x}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
found=$(go env GOCACHE)/fuzz # where go test, too, keeps inputs of interest

packages=$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u)
[ -n "$packages" ]
for package in $packages; do
	# Built once for all of its targets.
	go test -c -fuzz . -o "$work/fuzz.test" "$package"
	targets=$(cd "$package" && "$work/fuzz.test" -test.list '^Fuzz')
	[ -n "$targets" ]
	for target in $targets; do
		echo "fuzz $target"
		(cd "$package" && "$work/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$inputs" \
			-test.fuzzminimizetime 1x -test.timeout 5m -test.fuzzcachedir "$found/$(go list .)")
	done
done
