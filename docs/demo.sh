#!/bin/sh
# The demonstration that ./dev demo runs: the main operations of virtc. It prints each command before it runs it.
set -eu

work=$(mktemp -d)
pod=demo
cleanup() {
    virtc pod delete --force "$pod" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() {
    printf '\033[36m$ %s\033[0m\n' "$*"
    "$@"
}
expect() {
    wanted=$1
    shift
    got=0
    show "$@" || got=$?
    echo "(exit code $got)"
    [ "$got" = "$wanted" ] || { echo "expected exit code $wanted" >&2; exit 1; }
}

title "A guest to boot: built once from Debian packages"
show virtc guest build

title "A bundle: a directory that contains a root file system"
mkdir -p "$work/bundle/rootfs/bin"
cp "$(command -v busybox)" "$work/bundle/rootfs/bin/"
(cd "$work/bundle/rootfs/bin" && busybox --list | grep -vx busybox | xargs -n 1 ln -s busybox)
show ls "$work/bundle/rootfs"

title "A pod: one virtual machine, one container in it"
show virtc pod run --id "$pod" --bundle "$work/bundle" -- sleep 1000
show virtc pod list
show virtc pod status "$pod"

title "The kernel of the pod is not that of the host"
show uname -r
show virtc container enter "$pod" 1 -- uname -a

title "The pod has its own processes and host name"
show virtc container enter "$pod" 1 -- ps
show virtc container enter "$pod" 1 -- hostname

title "Input, output and exit codes pass through"
printf '\033[36m$ echo hello | virtc container enter -i %s 1 -- tr a-z A-Z\033[0m\n' "$pod"
echo hello | virtc container enter -i "$pod" 1 -- tr a-z A-Z
expect 7 virtc container enter "$pod" 1 -- sh -c "exit 7"
expect 127 virtc container enter "$pod" 1 -- no-such-command

title "Stop and delete"
show virtc pod stop "$pod"
show virtc pod list
show virtc pod delete "$pod"

title "A pod in the foreground, deleted afterwards"
show virtc pod run -i --rm --bundle "$work/bundle" -- echo "hello from a virtual machine"
show virtc pod list

title "Nothing is left"
for process in /proc/[0-9]*; do
    if tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -q -e "vc_core.supervisor $pod " -e "guest=$pod,"; then
        echo "left behind: $process" >&2
        exit 1
    fi
done
if grep virtcontainers /proc/self/mountinfo; then exit 1; fi
echo "no pod, no process of a pod, no mount"
