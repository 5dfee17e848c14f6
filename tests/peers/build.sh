#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Build the peers that aren't Debian packages, coredns and node-cache, into build/peers or $FASTDNS_PEERS_DIR.
# What is there in the pinned version stays. Needs go; about two minutes from nothing.
set -eu

here=$(dirname "$(readlink -f "$0")")
out=${FASTDNS_PEERS_DIR:-$here/../../build/peers}
. "$here/versions.env"

# is_built NAME VERSION: the stamp beside a binary says of which version it is.
is_built() {
	[ -x "$out/$1" ] && [ "$(cat "$out/$1.version" 2>/dev/null)" = "$2" ]
}

build_coredns() {
	GOBIN="$out" go install "github.com/coredns/coredns@$COREDNS_VERSION"
}

# Not by `go install`: it refuses modules whose go.mod has replace directives, and asks for the module's list of
# versions, of which there is none. As the main module, in a copy of its source, node-cache has its own replacements
# and sums.
build_node_cache() {
	module=$(GONOSUMDB=k8s.io/dns go mod download -json "k8s.io/dns@$NODE_CACHE_VERSION")
	sum=$(printf '%s' "$module" | sed -n 's/.*"Sum": "\(.*\)".*/\1/p')
	dir=$(printf '%s' "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	if [ "$sum" != "$NODE_CACHE_SUM" ]; then
		echo "k8s.io/dns $NODE_CACHE_VERSION has the sum $sum, not $NODE_CACHE_SUM: not built" >&2
		return 1
	fi
	source=$(mktemp -d)
	cp -R "$dir/." "$source"
	chmod -R u+w "$source"
	rm -rf "$source/vendor" # incomplete in a module's archive
	(cd "$source" && go build -mod=mod -o node-cache.built ./cmd/node-cache) || {
		rm -rf "$source"
		return 1
	}
	mv "$source/node-cache.built" "$out/node-cache"
	rm -rf "$source"
}

command -v go >/dev/null || {
	echo "make peers: needs go (1.22 or newer) in PATH, to build CoreDNS and node-cache" >&2
	exit 1
}
mkdir -p "$out"
out=$(readlink -f "$out")
cd "$out" # outside of any Go module
is_built coredns "$COREDNS_VERSION" || {
	echo "building coredns $COREDNS_VERSION"
	build_coredns
	echo "$COREDNS_VERSION" >"$out/coredns.version"
}
is_built node-cache "$NODE_CACHE_VERSION" || {
	echo "building node-cache $NODE_CACHE_VERSION"
	build_node_cache
	echo "$NODE_CACHE_VERSION" >"$out/node-cache.version"
}
echo "peers are in $out"
