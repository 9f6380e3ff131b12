#!/bin/sh
# Installs the programs that the bench measures against, if they are missing: HAProxy,
# and nginx with its stream module (on Debian and its derivatives). The services that
# the packages would start are not started.
set -eu

if [ "$(uname -s)" != Linux ]; then
	echo "the bench needs Linux" >&2
	exit 1
fi
if [ "$(id -u)" = 0 ]; then
	root=
elif command -v sudo >/dev/null; then
	root=sudo
else
	root=none
fi

has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

has_stream() {
	has nginx || return 1
	for module in /usr/lib*/nginx/modules/ngx_stream_module.so; do
		[ -e "$module" ] && return 0
	done
	nginx=$(command -v nginx || echo /usr/sbin/nginx)
	"$nginx" -V 2>&1 | grep -q -- '--with-stream\( \|$\)' # built in
}

packages=
has haproxy || packages="$packages haproxy"
has nginx || packages="$packages nginx-light"
has_stream || packages="$packages libnginx-mod-stream"
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "missing, install them by hand (this system has no apt-get):$packages" >&2
	exit 1
fi
if [ "$root" = none ]; then
	echo "missing, and installing them needs root or sudo:$packages" >&2
	exit 1
fi

# A policy of "no" keeps the packages from starting their servers.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap '$root rm -f $policy' EXIT
	trap 'exit 1' INT TERM
	printf '#!/bin/sh\nexit 101\n' | $root tee $policy >/dev/null
	$root chmod 755 $policy
fi
echo "installing:$packages"
$root apt-get update -q
# shellcheck disable=SC2086 # a list of words
$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
