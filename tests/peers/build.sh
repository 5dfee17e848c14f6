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
# versions, of which there is none. As the main module, in a copy of its source, node-cache has its own replacements.
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
	(cd "$source" && renew_node_cache && go build -mod=mod -o node-cache.built ./cmd/node-cache) || {
		rm -rf "$source"
		return 1
	}
	mv "$source/node-cache.built" "$out/node-cache"
	rm -rf "$source"
}

# In the source's folder: a newer CoreDNS, and the plugin that has come in since. Only node-cache's direct requirements are kept, the rest follows from them; the
# replacements by which Kubernetes' own modules are found get the version of today. Then what has changed since in the
# functions of Kubernetes that it calls.
renew_node_cache() {
	kubernetes=$NODE_CACHE_KUBERNETES
	sed -i -e '/\/\/ indirect$/d' \
		-e "s|coredns/coredns v.*|coredns/coredns $NODE_CACHE_COREDNS|" \
		-e "s|coredns/caddy v.*|coredns/caddy $NODE_CACHE_CADDY|" \
		-e '/apache\/thrift =>/d' -e '/golang.org\/x\/crypto =>/d' \
		-e "s|=> \\(k8s.io/[a-z-]*\\) v0.24.7|=> \\1 v0.$kubernetes|" \
		-e "s|k8s.io/kubernetes v.*|k8s.io/kubernetes v1.$kubernetes|" go.mod
	rm go.sum
	go mod edit -require="google.golang.org/genproto@$NODE_CACHE_GENPROTO"
	sed -i -e 's|k8s.io/apimachinery/pkg/util/clock|k8s.io/utils/clock|' \
		-e 's/clock\.Clock$/clock.WithTicker/' -e 's/clock clock\.Clock)/clock clock.WithTicker)/' pkg/dns/config/sync_dir.go
	sed -i 's/validation.IsValidIP(host)/validation.IsValidIP(nil, host)/' pkg/dns/config/config.go
	sed -i 's|.*coredns/plugin/template"|&\n\t_ "github.com/coredns/coredns/plugin/timeouts"|' cmd/node-cache/main.go
	sed -i -e '/execer := utilexec.New()/d' -e '/utilexec "k8s.io/d' -e 's/New(execer, /New(/' cmd/node-cache/app/cache_app.go
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
node_cache="$NODE_CACHE_VERSION with CoreDNS $NODE_CACHE_COREDNS"
is_built node-cache "$node_cache" || {
	echo "building node-cache $node_cache"
	build_node_cache
	echo "$node_cache" >"$out/node-cache.version"
}
echo "peers are in $out"
