#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Build the container image: docker/build.sh [NAME]        (NAME: localhost/fastdns:latest)
#
# By buildah, as root, without a container engine and without pulling an image: the base is a Debian root that debootstrap
# makes, kept for the next build. Everything lands in build/image, or $FASTDNS_IMAGE_DIR; `docker/build.sh --buildah COMMAND...` runs
# buildah on what lies there:
#
#     docker/build.sh --buildah push localhost/fastdns:latest docker-archive:fastdns.tar
#
# With another engine: docker build -f docker/Dockerfile --build-arg ROOT=debian:bookworm-slim .
set -eu

here=$(dirname "$(readlink -f "$0")")
source=$(dirname "$here")
dir=${FASTDNS_IMAGE_DIR:-$source/build/image}
suite=bookworm
root=localhost/fastdns-root:$suite

# chroot and vfs work in any container or virtual machine where we are root; namespaces and overlay don't.
in_store() {
	buildah --root "$dir/storage" --runroot "$dir/run" --storage-driver vfs "$@"
}
export BUILDAH_ISOLATION=chroot

# The smallest Debian with apt, from the mirror that this machine's apt uses first.
make_root() {
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" 2>/dev/null | head -n 1)
	echo "making a Debian $suite root"
	rm -rf "$dir/root"
	debootstrap --variant=minbase "$suite" "$dir/root" ${mirror:+"$mirror"} >"$dir/debootstrap.log" || {
		tail -n 5 "$dir/debootstrap.log" >&2
		return 1
	}
	rm -rf "$dir/root/var/cache/apt" "$dir/root/var/lib/apt/lists"
	container=$(in_store from scratch)
	in_store add -q "$container" "$dir/root" / >/dev/null
	in_store commit -q --rm "$container" "$root" >/dev/null
	rm -rf "$dir/root"
}

# What this machine's pip is told by its environment (a certificate of its own, an index) holds for the image's pip, too.
pip_settings() {
	for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT; do
		eval "value=\${$name-}"
		[ -z "$value" ] || printf ' --build-arg %s' "$name=$value"
	done
	[ -z "${PIP_CERT-}" ] || printf ' --build-arg PIP_CERT=/run/pip-cert.pem --volume %s:/run/pip-cert.pem:ro' "$PIP_CERT"
}

if [ "${1-}" = --buildah ]; then
	shift
	in_store "$@"
	exit
fi
name=${1-localhost/fastdns:latest}
for program in buildah debootstrap; do
	command -v "$program" >/dev/null || {
		echo "docker/build.sh: needs $program: apt-get install $program" >&2
		exit 1
	}
done
mkdir -p "$dir"
if ! in_store inspect --type image "$root" >/dev/null 2>&1; then
	make_root
fi
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$source/fastdns/_version.py")
# shellcheck disable=SC2046 # words
in_store build --quiet --pull-never --layers=false --file "$here/Dockerfile" --build-arg ROOT="$root" \
	--build-arg VERSION="$version" $(pip_settings) --tag "$name" "$source" >/dev/null
in_store rmi --prune >/dev/null # what had this name before
echo "built $name"
