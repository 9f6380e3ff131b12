#!/usr/bin/env bash
# Runs every fuzz target: scripts/fuzz.sh [INPUTS], with so many inputs, such as
# 1000x, or for a time, such as 10m. At the end of a time go test now and then
# takes an input that was under way for a failure, "context deadline exceeded";
# a number has no such end. What fails is kept in testdata/fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
inputs=${1:-1000x}
go list ./... | while read -r package; do
	go test -list '^Fuzz' "$package" | { grep '^Fuzz' || true; } | while read -r target; do
		echo "fuzz $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$inputs" -fuzzminimizetime 1x -timeout 5m "$package" </dev/null
	done
done
