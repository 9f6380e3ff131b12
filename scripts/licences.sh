#!/bin/sh
# Collects the licences of everything that the program is built from: this project,
# Go and each module that is linked. They are written to DIRECTORY, which gets one
# folder for each module.
#   scripts/licences.sh DIRECTORY
set -eu
out=${1:?usage: scripts/licences.sh DIRECTORY}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
: "${GO:=go}"

# copy_texts puts the licence texts of the directory $2 below the name $1.
copy_texts() {
    mkdir -p "$out/$1"
    found=
    for text in "$2"/LICENSE* "$2"/LICENCE* "$2"/COPYING* "$2"/NOTICE*; do
        [ -f "$text" ] || continue
        cp "$text" "$out/$1/"
        case ${text##*/} in NOTICE*) ;; *) found=yes ;; esac
    done
    if [ -z "$found" ]; then
        echo "no licence of $1 in $2" >&2
        exit 1
    fi
    chmod 644 "$out/$1"/*
}

copy_texts stratumSwitcher .
# Debian's Go has its licence elsewhere.
goroot=$($GO env GOROOT)
[ -f "$goroot/LICENSE" ] || goroot=/usr/share/doc/golang-go
if [ -f "$goroot/LICENSE" ] || [ -f "$goroot/copyright" ]; then
    mkdir -p "$out/go"
    for text in LICENSE PATENTS copyright; do
        [ ! -f "$goroot/$text" ] || install -m 644 "$goroot/$text" "$out/go/"
    done
else
    echo "no licence of Go in $goroot" >&2
    exit 1
fi

modules=$(mktemp)
trap 'rm -f "$modules"' EXIT
GOOS=linux CGO_ENABLED=0 $GO list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' . | sort -u >"$modules"
while read -r path dir; do
    copy_texts "$path" "$dir"
done <"$modules"
