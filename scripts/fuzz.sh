#!/usr/bin/env bash
# Runs every fuzz target for some seconds: scripts/fuzz.sh [SECONDS]. What fails
# is kept in testdata/fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-3}
go list ./... | while read -r package; do
	go test -list '^Fuzz' "$package" | { grep '^Fuzz' || true; } | while read -r target; do
		echo "fuzz $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s" -fuzzminimizetime 1x -timeout 5m "$package" </dev/null
	done
done
