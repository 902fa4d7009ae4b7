#!/bin/sh
# Installs what some tests need beyond Python, where that can be done without asking: Debian
# or Ubuntu, as root or with sudo that wants no password. It says so first, and how to
# decline. Where it cannot, one line says which tests will not run. Quick when everything is
# there, and never a failure, but for a wrong call.
#
#   tests/install_tools.sh                    install what is missing
#   tests/install_tools.sh list               say what would be installed, and why; do nothing
#   INSTALL_TOOLS=no tests/install_tools.sh   install nothing; say which tests will not run

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

refuse() {
    echo "tests/install_tools.sh: $1" >&2
    exit 2
}

case "${1-}" in
"" | list) ;;
*) refuse "unknown word $1: list is the only one" ;;
esac
case "${INSTALL_TOOLS-yes}" in
yes | no) ;;
*) refuse "cannot understand INSTALL_TOOLS=$INSTALL_TOOLS: give yes or no" ;;
esac

look
if [ "${1-}" = list ]; then
    echo "Missing, with the tests that need it: ${reasons:-nothing}."
    exit 0
fi
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root="sudo -n"
    sudo -n true 2>/dev/null || as_root=no
fi
if [ "${INSTALL_TOOLS-yes}" = yes ] && [ "$as_root" != no ] &&
    command -v apt-get >/dev/null 2>&1; then
    echo "Some tests need Debian packages that are not installed:$missing"
    echo "Installing them now with apt-get, as root; not wanted: INSTALL_TOOLS=no make test"
    if [ -t 1 ]; then
        echo "(Ctrl-C within 5 seconds to stop)"
        trap 'exit 130' INT
        sleep 5
        trap - INT
    fi
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
