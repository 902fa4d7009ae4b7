#!/bin/sh
# Installs what some tests need beyond Python, where that can be done without asking: Debian
# or Ubuntu, as root or with sudo that wants no password. Where not, one line says which
# tests will not run. Quick when everything is there, and never a failure.

want() { # command, or commands that do; package; the tests that need it
    for command in $1; do
        command -v "$command" >/dev/null 2>&1 && return
    done
    missing="$missing $2"
    reasons="$reasons${reasons:+, }$3 ($2)"
}

look() {
    missing=
    reasons=
    want "chromium chromium-browser google-chrome" chromium "the dashboard in a browser"
    want "promtool" prometheus "metrics, dashboard and alerts with Prometheus"
    want "etcd" etcd-server "the engine over etcd, and the benchmark beside it"
    want "openssl" openssl "etcd with TLS"
    want "haproxy" haproxy "the example of a balancer"
    want "zsh" zsh "completion in zsh"
}

look
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root="sudo -n"
    sudo -n true 2>/dev/null || as_root=no
fi
if [ "$as_root" != no ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing what tests need:$missing"
    patience="-o Acquire::Retries=1 -o Acquire::http::Timeout=15"
    $as_root apt-get $patience update -qq </dev/null >/dev/null 2>&1
    for package in $missing; do # one that cannot be had does not keep the others away
        # RUNLEVEL=1: what is a service too is not started, where init scripts do that.
        $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get $patience install -y -qq --no-install-recommends "$package" \
            </dev/null >/dev/null 2>&1 || echo "$package could not be installed."
    done
    look
fi
[ -z "$missing" ] || echo "Not installed, so these tests will not run: $reasons."
exit 0
