#!/bin/sh
# Make an authority of your own and a certificate for the broker, with openssl 1.1.1 or later.
# usage: make-certs.sh FOLDER NAME [NAME_OR_ADDRESS...]
# example: make-certs.sh /etc/mosquitto/pamdi broker.local 192.168.1.10
#
# Writes ca.crt (give it to every device), ca.key (keep it; whoever has it can pose as the broker), broker.crt and
# broker.key. NAMEs are what clients write into their url: a name that is missing is refused. Run again, it keeps the
# authority and renews the broker's certificate, so that devices need nothing new.
set -eu

[ $# -ge 2 ] || { sed -n 's/^# \(usage\|example\)/\1/p' "$0" >&2; exit 2; }
folder=$1
shift
common_name=$1
names=
for name; do
  case $name in
    *[!0-9.]*) case $name in *:*) kind=IP ;; *) kind=DNS ;; esac ;;
    *) kind=IP ;;
  esac
  names=${names:+$names,}$kind:$name
done

umask 077
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Extensions are spelled out, because strict clients (Python 3.13) refuse an authority that lacks any of these.
cat >"$work/openssl.cnf" <<END
[req]
distinguished_name = name
prompt = no
[name]
CN = $common_name
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[broker]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $names
END

if [ ! -f "$folder/ca.key" ]; then
  openssl ecparam -genkey -noout -name prime256v1 -out "$folder/ca.key"
  openssl req -x509 -new -sha256 -days 3650 -key "$folder/ca.key" -out "$folder/ca.crt" \
    -config "$work/openssl.cnf" -extensions authority -subj "/CN=pamdi fleet authority"
fi
openssl ecparam -genkey -noout -name prime256v1 -out "$work/broker.key"
openssl req -new -sha256 -key "$work/broker.key" -out "$work/broker.csr" -config "$work/openssl.cnf"
openssl x509 -req -sha256 -days 825 -in "$work/broker.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" \
  -set_serial "0x$(openssl rand -hex 16)" -extfile "$work/openssl.cnf" -extensions broker -out "$work/broker.crt" 2>/dev/null
openssl verify -CAfile "$folder/ca.crt" "$work/broker.crt" >/dev/null
if [ -e "$folder/broker.key" ]; then  # renewed: who could read the old key can read the new one
  chown --reference="$folder/broker.key" "$work/broker.key"
  chmod --reference="$folder/broker.key" "$work/broker.key"
fi
mv "$work/broker.key" "$work/broker.crt" "$folder"
chmod 644 "$folder/ca.crt" "$folder/broker.crt"
echo "$folder: ca.crt for the devices; broker.crt and broker.key for the broker, valid 825 days for $names"
