#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tools/setup.sh venv DIR      make a virtual environment, with what compiling needs
# tools/setup.sh apt GROUP...  install the missing packages of these groups (tools/apt-packages.txt)
# Only root installs packages; anybody else is told what to install. Services that a package would
# start stay off: a test starts what it needs, on a port of its own.
set -eu

here=$(dirname "$(readlink -f "$0")")
python=${BASE_PYTHON:-python3}
lock=${TMPDIR:-/tmp}/fastdns-apt.lock

missing_packages() {
	for group in "$@"; do
		sed -n "s/^$group  *\([^ ]*\).*/\1/p" "$here/apt-packages.txt"
	done | while read -r package; do
		state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
		[ "$state" = installed ] || echo "$package"
	done
}

# apt_install PACKAGE...: with every service kept from starting (invoke-rc.d asks policy-rc.d).
apt_install() {
	policy=/usr/sbin/policy-rc.d
	ours=no
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		ours=yes
	fi
	code=0
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get -qq update && apt-get -qq -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 \
		install --no-install-recommends "$@" >/dev/null; } || code=$?
	[ "$ours" = no ] || rm -f "$policy"
	return $code
}

install_groups() {
	command -v dpkg-query >/dev/null || {
		echo "setup: not Debian; install what tools/apt-packages.txt lists under: $*" >&2
		return 1
	}
	missing=$(missing_packages "$@" | tr '\n' ' ')
	[ -n "${missing% }" ] || return 0
	if [ "$(id -u)" != 0 ]; then
		echo "setup: missing here: $missing" >&2
		echo "setup: as root: apt-get install --no-install-recommends $missing" >&2
		return 1
	fi
	echo "setup: installing $missing"
	# shellcheck disable=SC2086 # a list of words
	(flock 9 && apt_install $missing) 9>"$lock"
}

# Whether this Python can make a venv and compile an extension; packages are not asked, so that a
# Python from elsewhere (pyenv, an image of its own) does too.
can_build() {
	"$python" -c 'import ensurepip, venv' 2>/dev/null || return 1
	include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))') || return 1
	printf '#include <Python.h>\n#include <sys/epoll.h>\n' |
		"${CC:-cc}" -I"$include" -fsyntax-only -x c - 2>/dev/null
}

make_venv() {
	"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
		echo "setup: fastdns needs Python 3.11 or newer, and $python is $("$python" -V 2>&1)" >&2
		return 1
	}
	can_build || install_groups build
	can_build || {
		echo "setup: $python can't make a venv, or ${CC:-cc} can't compile against its Python.h" >&2
		return 1
	}
	"$python" -m venv "$1"
}

case ${1-} in
venv) make_venv "$2" ;;
apt)
	shift
	install_groups "$@"
	;;
*)
	sed -n '3,6s/^# //p' "$0" >&2
	exit 2
	;;
esac
