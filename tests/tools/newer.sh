#!/usr/bin/env bash
# Puts packages of a newer Debian beside this one: downloaded, unpacked, wrapped, never installed. Nothing of the system
# changes; to be rid of them, remove the folder.
#
#   tests/tools/newer.sh FOLDER SUITE PACKAGE…       tests/tools/newer.sh target/newer sid mosquitto
#
# The programs then stand in FOLDER/bin, as scripts that start them with the C library they were built for.
set -euo pipefail

die() { echo "newer.sh: $*" >&2; exit 1; }

[ $# -ge 3 ] || die "usage: newer.sh FOLDER SUITE PACKAGE…"
mkdir -p "$1"
folder=$(cd "$1" && pwd)
suite=$2
shift 2

# The mirror that this machine uses already, in either of apt's two forms of writing it down.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | awk '
        $1 == "URIs:"                        { for (i = 2; i <= NF; i++) print $i }
        $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) { print $i; break } }
    ' | grep -E '^https?://.*/debian/?$' | sort -u | head -n 1
}

uri=$(mirror) || true
[ -n "$uri" ] || die "this machine's apt has no Debian mirror"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keys" ] || die "$keys is missing: install debian-archive-keyring"

mkdir -p "$folder"/{lists/partial,archives/partial,root,bin}
# An empty list of installed packages: apt then fetches everything the packages need, their C library included.
: > "$folder/status"
echo "deb [signed-by=$keys] ${uri%/} $suite main" > "$folder/sources.list"

own_apt() {
    timeout 300 apt-get -q \
        -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::PreferencesParts=/dev/null -o Dir::State::Lists="$folder/lists" \
        -o Dir::State::Status="$folder/status" -o Dir::Cache::Archives="$folder/archives" \
        -o Dir::Cache::pkgcache="" -o Dir::Cache::srcpkgcache="" \
        -o APT::Sandbox::User=root -o Acquire::Retries=3 "$@"
}

own_apt update > "$folder/apt.log" 2>&1 || die "no lists of $suite: $(tail -n 1 "$folder/apt.log")"
own_apt install --yes --download-only --no-install-recommends "$@" >> "$folder/apt.log" 2>&1 \
    || die "cannot download $*: $(tail -n 1 "$folder/apt.log")"

for package in "$folder"/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder/root"
done

triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
libraries=$folder/root/usr/lib/$triplet
loader=$(find "$folder/root" -name 'ld-linux*.so.*' \( -type f -o -type l \) | sort | head -n 1)
[ -n "$loader" ] || die "no dynamic loader among the packages"
/sbin/ldconfig -n "$libraries"

for package in "$@"; do
    dpkg-deb --contents "$(ls "$folder/archives/${package}"_*.deb | head -n 1)" | awk '{ print $6 }' \
        | grep -E '^\./usr/s?bin/[^/]+$' | while read -r file; do
        program=$folder/root/${file#./}
        [ "$(head -c 4 "$program" | tail -c 3)" = ELF ] || continue
        wrapper=$folder/bin/$(basename "$file")
        printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' "$loader" "$libraries" "$program" > "$wrapper"
        chmod +x "$wrapper"
    done
done
ls "$folder/bin"
