#!/bin/sh
# Installs what the tests need, if it is missing: a C compiler, a ZooKeeper server
# with Java, supervisor, systemd, cmake, man, Chromium, curl, ss, openssl, HAProxy,
# stunnel and Prometheus (on Debian and its derivatives), and Stratum programs by
# others (npm).
set -eu

if [ "$(id -u)" = 0 ]; then
	root=
elif command -v sudo >/dev/null; then
	root=sudo
else
	root=none
fi

packages=
want() { # command or file, package
	case $1 in
	/*) [ -e "$1" ] || packages="$packages $2" ;;
	*) command -v "$1" >/dev/null || packages="$packages $2" ;;
	esac
}
want gcc gcc # for the race detector
want /usr/include/stdlib.h libc6-dev
want java default-jre-headless
want /usr/share/zookeeper/bin/zkCli.sh zookeeper
want supervisord supervisor
want /lib/systemd/systemd systemd
want cmake cmake
want make make
want man man-db
want unshare util-linux
want useradd passwd
want /bin/kill procps
want ss iproute2
want curl curl
want openssl openssl
want haproxy haproxy
want stunnel4 stunnel4
want prometheus prometheus
want node nodejs
want npm npm
want chromium chromium

if [ -n "$packages" ]; then
	if ! command -v apt-get >/dev/null; then
		echo "missing, install them by hand (this system has no apt-get):$packages" >&2
		exit 1
	fi
	if [ "$root" = none ]; then
		echo "missing, and installing them needs root or sudo:$packages" >&2
		exit 1
	fi
	echo "installing:$packages"
	$root apt-get update -q
	# shellcheck disable=SC2086 # a list of words
	$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
fi

# These Stratum programs by others are for tests only: internal/thirdparty.
programs=${XDG_CACHE_HOME:-$HOME/.cache}/stratumSwitcher/test-programs
source=$(dirname "$0")/../internal/thirdparty
if ! cmp -s "$source/package-lock.json" "$programs/node_modules/.installed"; then
	echo "installing: npm packages in $programs"
	mkdir -p "$programs"
	cp "$source/package.json" "$source/package-lock.json" "$programs"
	(cd "$programs" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
	cp "$source/package-lock.json" "$programs/node_modules/.installed"
fi
