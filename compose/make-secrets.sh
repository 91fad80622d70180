#!/bin/sh
# Makes every secret that compose.yaml mounts, once, in compose/secrets: passwords of the broker's users, the broker's
# definitions with their hashes, the key that callers' tokens are signed with, the key that kept tokens are sealed with.
# What is there stays. The files can be read by the containers' users; the folder by you alone.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
chmod 700 secrets
[ -s definitions.json ] || { echo "make-secrets: compose/definitions.json is not here" >&2; exit 1; }

secret() { # NAME VALUE
    [ -e "secrets/$1" ] || printf '%s\n' "$2" > "secrets/$1"
    chmod 444 "secrets/$1"
}

# as RabbitMQ keeps a password: base64 of a salt of four bytes and the SHA-256 of salt and password
hash_of() { # PASSWORD
    salt=$(openssl rand -hex 2)
    { printf '%s' "$salt"; printf '%s%s' "$salt" "$1" | openssl dgst -sha256 -binary; } | openssl base64 -A
}

secret edge_jwt_key "$(openssl rand -hex 32)"
secret edge_seal_keys "$(openssl rand -base64 32 | tr '+/' '-_')"
secret grafana_admin_password "$(openssl rand -hex 12)"
for user in edge consumer publisher operator; do
    secret "${user}_password" "$(openssl rand -hex 18)"
done
for user in edge consumer; do
    secret "${user}_amqp_url" "amqp://$user:$(cat "secrets/${user}_password")@rabbitmq:5672/"
done

if [ ! -e secrets/definitions.json ] || [ definitions.json -nt secrets/definitions.json ]; then
    cp definitions.json secrets/definitions.new
    for user in edge consumer publisher operator; do
        hash=$(hash_of "$(cat "secrets/${user}_password")")
        sed "/\"name\": \"$user\"/,/\"password_hash\"/ s|\"password_hash\": \"[^\"]*\"|\"password_hash\": \"$hash\"|" \
            secrets/definitions.new > secrets/definitions.sed
        mv secrets/definitions.sed secrets/definitions.new
    done
    mv -f secrets/definitions.new secrets/definitions.json
    chmod 444 secrets/definitions.json
fi
