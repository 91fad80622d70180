#!/bin/sh
# Install Chromium from the system's packages where no browser of its family is there. Only the tests of the page need it.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
. "$(dirname "$0")/apt-install.sh"
apt_install chromium Chromium ""
