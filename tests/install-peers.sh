#!/bin/sh
# Installs the programs that the tests use as peers and judges, where this user may.
# A peer that stays missing skips its tests locally and fails them in CI.
missing=""
command -v /usr/bin/storescu >/dev/null || missing="$missing dcmtk"
command -v Orthanc >/dev/null || [ -x /usr/sbin/Orthanc ] || missing="$missing orthanc"
command -v promtool >/dev/null || missing="$missing prometheus"
command -v strace >/dev/null || missing="$missing strace"
command -v npx >/dev/null || missing="$missing npm"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "peers missing:$missing (install them to run every test)"
    exit 0
fi
echo "installing:$missing"
apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
