#!/bin/sh
# Installs vc-runtime on a node and names it in containerd's configuration: install.sh [configure | remove]
# configure does only the latter; remove undoes both. Runs as root in the namespaces of the node, from a directory below
# the one in which it installs. What is there already is kept. Variables:
#   PACKAGES           what pip installs; PIP_INDEX_URL and the like are options of pip
#   CONTAINERD_CONFIG  containerd's file of configuration
#   RESTART            a command that makes containerd read it
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin # that of the container is another one
export PATH

here=$(cd "$(dirname "$0")" && pwd)
place=$(dirname "$here")
venv=$place/venv
config=${CONTAINERD_CONFIG:-/etc/containerd/config.toml}
runc='[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"'
begin="# BEGIN virtcontainers" end="# END virtcontainers"
PACKAGES=${PACKAGES:-"virtcontainers vc-runtime"}
RESTART=${RESTART:-systemctl restart containerd}
DEBIAN="python3-venv qemu-system-x86 kmod zstd"

say() { echo "virtcontainers: $*"; }
fail() { say "$*" >&2; exit 1; }

install_debian_packages() {
    missing=""
    for package in $DEBIAN; do
        dpkg-query --show --showformat '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installs the Debian packages$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of names, to be split
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}

install_runtime() {
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    # shellcheck disable=SC2086 # a list of names, to be split
    "$venv/bin/pip" install --quiet --disable-pip-version-check --upgrade $PACKAGES
    "$venv/bin/virtc" guest build || say "the guest could not be built; pods try it again, unless an older one fits"
    "$venv/bin/virtc" check || fail "virtual machines cannot run on this node: see above"
}

# Print the configuration without the part that this script has written.
other_configuration() { sed "/^$begin\$/,/^$end\$/d" "$config"; }

# Make containerd use a new configuration, if it is another one: configure FILE
configure() {
    if cmp -s "$1" "$config"; then
        rm "$1"
        return 0
    fi
    containerd --config "$1" config dump >/dev/null || fail "containerd refuses $1; $config is as it was"
    [ -e "$config.before-virtcontainers" ] || cp -p "$config" "$config.before-virtcontainers"
    mv "$1" "$config"
    say "containerd reads a new $config"
    $RESTART
}

add_handler() {
    mkdir -p "${config%/*}"
    [ -e "$config" ] || containerd config default >"$config"
    grep -Eq '^version *= *2' "$config" ||
        fail "$config is not of version 2; add the runtime to it as docs/how-to/kubernetes.md describes"
    if other_configuration | grep -Eq 'containerd\.runtimes\.vc\]'; then
        say "$config has a runtime vc of its own, which stays"
        return 0
    fi
    {
        other_configuration
        echo "$begin"
        sed "s,/opt/virtcontainers/,$place/," "$here/containerd.toml"
        # A configuration that lists a runtime loses the built-in one, which is then listed too.
        other_configuration | grep -Eq 'containerd\.runtimes\.' || printf '%s\n' "$runc"
        echo "$end"
    } >"$config.new"
    configure "$config.new"
}

remove() {
    if [ -x "$venv/bin/virtc" ] && [ -n "$("$venv/bin/virtc" pod list --quiet)" ]; then
        fail "virtual machines run on this node: delete the pods of the class first"
    fi
    if [ -e "$config" ]; then
        other_configuration >"$config.new"
        configure "$config.new"
    fi
    rm -f "$config.before-virtcontainers"
    rm -rf "$venv"
    say "vc-runtime is removed"
}

case ${1:-install} in
configure) add_handler ;;
install)
    install_debian_packages
    install_runtime
    add_handler
    say "vc-runtime is installed"
    ;;
remove) remove ;;
*) fail "usage: install.sh [configure | remove]" ;;
esac
