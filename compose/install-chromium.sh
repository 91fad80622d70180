#!/bin/sh
# Install Chromium from the system's packages where no browser of its family is there. Only the tests of the page need it.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if ! command -v apt-get >/dev/null; then
    echo "setup: no Chromium here and no apt-get to install it with" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null; then
    as_root="sudo"
else
    echo "setup: no Chromium here; as root: apt-get install chromium" >&2
    exit 1
fi
echo "setup: installing chromium"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
install() { $as_root apt-get install -y -q --no-install-recommends chromium >"$log" 2>&1; }
install || { $as_root apt-get update -q >"$log" 2>&1 && install; } || {
    tail -n 20 "$log" >&2
    exit 1
}
