#!/bin/sh
# Copies the pages for operators to DIRECTORY. They are placed as in the source
# directory, so that links between them work. Links to pages that are only in the
# source, such as those for developers, become plain text.
#   scripts/operator-docs.sh DIRECTORY
set -eu
out=${1:?usage: scripts/operator-docs.sh DIRECTORY}
mkdir -p "$out/docs/bench"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."

developers='CONTRIBUTING|architecture|handshakes|protocol'
for page in README.md CHANGELOG.md SECURITY.md docs/*.md; do
	name=${page##*/}
	if echo "${name%.md}" | grep -qxE "$developers"; then
		continue
	fi
	sed -E -e "s,\[([^]]*)\]\(((\.\./|docs/)?($developers)\.md)(#[^)]*)?\),\1 (in the source),g" \
		-e 's,\[([^]]*)\]\((\.\./deploy/|bench/results)[^)]*\),\1,g' \
		-e 's,\]\((\.\./)?LICENSE\),](\1copyright),g' "$page" >"$out/$page"
	chmod 644 "$out/$page"
done
install -m 644 deploy/copyright "$out/copyright"
install -m 644 docs/*.png docs/*.svg "$out/docs/"
install -m 644 docs/bench/*.svg "$out/docs/bench/"
