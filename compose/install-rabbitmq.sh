#!/bin/sh
# Install RabbitMQ from the system's packages where it is missing. Nothing to do where AMQP_URL names a broker.
set -eu
[ -z "${AMQP_URL:-}" ] || exit 0
if [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && command -v epmd >/dev/null; then exit 0; fi
if ! command -v apt-get >/dev/null; then
    echo "setup: no RabbitMQ here and no apt-get to install it with; install rabbitmq-server, or set AMQP_URL to a broker" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null; then
    as_root="sudo"
else
    echo "setup: no RabbitMQ here; as root: apt-get install rabbitmq-server, or set AMQP_URL to a broker" >&2
    exit 1
fi
echo "setup: installing rabbitmq-server"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
install() { $as_root apt-get install -y -q --no-install-recommends rabbitmq-server >"$log" 2>&1; }
install || { $as_root apt-get update -q >"$log" 2>&1 && install; } || {
    tail -n 20 "$log" >&2
    echo "setup: apt-get could not install rabbitmq-server (above); set AMQP_URL to use another broker" >&2
    exit 1
}
