# Sourced: apt_install PACKAGE NAME OTHERWISE installs a Debian package; what to do otherwise is said where that can't be done.
apt_install() {
    if ! command -v apt-get >/dev/null; then
        echo "setup: no $2 here and no apt-get to install it with${3:+; install $1, or $3}" >&2
        exit 1
    fi
    if [ "$(id -u)" = 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null; then
        as_root="sudo"
    else
        echo "setup: no $2 here; as root: apt-get install $1${3:+, or $3}" >&2
        exit 1
    fi
    echo "setup: installing $1"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    export DEBIAN_FRONTEND=noninteractive
    install() { $as_root apt-get install -y -q --no-install-recommends "$1" >"$log" 2>&1; }
    install "$1" || { $as_root apt-get update -q >"$log" 2>&1 && install "$1"; } || {
        tail -n 20 "$log" >&2
        echo "setup: apt-get could not install $1 (above)${3:+; $3}" >&2
        exit 1
    }
}
