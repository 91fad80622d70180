#!/bin/sh
# Install RabbitMQ from the system's packages where it is missing. Nothing to do where AMQP_URL names a broker.
set -eu
[ -z "${AMQP_URL:-}" ] || exit 0
if [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && command -v epmd >/dev/null; then exit 0; fi
. "$(dirname "$0")/apt-install.sh"
apt_install rabbitmq-server RabbitMQ "set AMQP_URL to a broker"
