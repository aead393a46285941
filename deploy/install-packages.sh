#!/usr/bin/env bash
# Installs the Debian packages listed in the files given that are missing.
#   deploy/install-packages.sh deploy/packages.txt tests/packages.txt
# Needs root, or sudo, only where something is missing.
set -euo pipefail
mapfile -t wanted < <(sed 's/#.*//' "$@" | grep -v '^[[:space:]]*$')
missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

. /etc/os-release
if [ "${ID:-}" != debian ] || [ "${VERSION_ID:-0}" -lt 12 ]; then
  echo "This installs packages on Debian 12; here is ${PRETTY_NAME:-an unknown system}." >&2
  echo "Install the equivalents of: ${missing[*]}" >&2
  exit 1
fi
run=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "Run as root, or install sudo; missing: ${missing[*]}" >&2; exit 1; }
  run=(sudo)
fi
echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
"${run[@]}" apt-get update -q
"${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
