#!/bin/sh
# Starts and ends the containers of one pod in the guest, with util-linux. The agent puts it there and calls it over SSH:
#
#   sh containers.sh COMMAND ARGUMENT...      see the end of this file
#
# Everything lies beside it: tools/ for what runs in a container before its program does, shares/ for what the host
# shares, c/ID/ for each container until it is removed:
#
#   0 1 2     FIFOs of its streams, for one connection after another; output that is not read makes its writes block
#   ok        "ok PID INNER": the pids of its first process in the guest and of its program in the container
#   spec      a line that the agent reads again when it connects anew
#   exit      its exit code, once it has ended
#   first     its first process; keeper: the process that holds the FIFOs; holder: the one that holds input open;
#             carriers: those that copy. Each process as identify prints it
#
# A start reports in one line on descriptor 3: what "ok" will hold, or what went wrong.
set -u
here=${0%/*}
forever=2147483647 # seconds; not every sleep takes "infinity"

fail() {
	echo "error 125 $*" >&2
	exit 125
}

# -- the processes on record ---------------------------------------------------------------------------------------------

# The kernel gives the pid of a process that has ended to another one, which is not ours to signal. So what is on record
# has its start time beside it.
identify() ( # PID...: print each that there is, and when it started, in ticks since the boot (proc(5), field 22 of stat)
	for pid; do
		stat=''
		while read -r line; do stat="$stat $line"; done 2>/dev/null <"/proc/$pid/stat" || continue
		# shellcheck disable=SC2086 # split into the fields after the name; the first is the third of all
		set -- ${stat##*) }
		[ $# -lt 20 ] || echo "$pid ${20}"
	done
)

end() { # SIGNAL: send it to those processes on the standard input that still run
	while read -r pid began; do
		[ "$(identify "$pid")" != "$pid $began" ] || kill "-$1" "$pid" 2>/dev/null
	done
	return 0
}

# -- before the first container ----------------------------------------------------------------------------------------

# Programs that run in a container's root must not depend on its files: copy them and their libraries to one directory.
setup() {
	[ "$(id -u)" = 0 ] || return 0 # others can run commands here, but start no containers
	mkdir -p "$here/tools" "$here/shares" "$here/c"
	chmod 755 "$here/tools"
	echo 127.0.0.1 >"$here/addresses" # those of the pod's host name
	for tool in sh env setpriv prlimit umount chown; do
		path=$(command -v "$tool") || fail "the guest has no $tool"
		cp -L "$path" "$here/tools/$tool"
		LD_TRACE_LOADED_OBJECTS=1 "$path" 2>/dev/null </dev/null | while read -r name arrow file _; do
			case "$name $arrow $file" in
			/*" (0x"*) cp -L "$name" "$here/tools/ld.so" && echo yes >"$here/tools/$tool.dynamic" ;;
			*" => /"*) [ -e "$here/tools/$name" ] || cp -L "$file" "$here/tools/$name" ;;
			esac
		done
	done
	chmod -R go+rX "$here/tools"
}

# -- a container's root --------------------------------------------------------------------------------------------------

# Mount what the host shares under a tag, once for all containers.
share() { # TAG OPTIONS
	mkdir -p "$here/shares/$1"
	grep -q " $here/shares/$1 " /proc/mounts || mount -t 9p -o "trans=virtio,version=9p2000.L,msize=262144,$2" "$1" "$here/shares/$1"
}

# Print where PATH is below the root $root, following links as a process in it would.
inside() { # PATH
	done='' todo=$1 links=0
	while [ -n "$todo" ]; do
		case $todo in
		*/*) part=${todo%%/*} todo=${todo#*/} ;;
		*) part=$todo todo='' ;;
		esac
		case $part in
		'' | .) continue ;;
		..) done=${done%/*} && continue ;;
		esac
		if [ -L "$root$done/$part" ]; then
			links=$((links + 1))
			[ $links -le 40 ] || fail "$1: too many links"
			link=$(readlink "$root$done/$part" && echo .)
			link=${link%??}
			case $link in /*) done='' ;; esac
			todo=$link/$todo
		else
			done=$done/$part
		fi
	done
	printf %s "$root$done"
}

# A directory to mount on. A link could lead the mount elsewhere, so none is followed.
directory() { # PATH below $root
	[ ! -L "$root$1" ] || fail "$1 in the container's root is a link"
	mkdir -p "$root$1" || exit 125
}

on() { # TARGET MOUNT-ARGUMENT...
	target=$1
	shift
	directory "$target"
	mount "$@" "$root$target" || exit 125
}

mount_root() { # DIRECTORY OVERLAY-SIZE, "none" to write to the directory itself
	[ -d "$1" ] || fail "the root $1 is no directory"
	layer=$c/layer
	root=$layer/root
	if [ "$2" = none ]; then
		mkdir "$layer" && mount -t tmpfs -o mode=0755,size=64k container "$layer" && mkdir -p "$layer/upper" "$root" || exit 125
		write_names "$layer"
		mount --bind "$1" "$root" || exit 125
		for name in "$layer"/upper/etc/*; do
			mount_given "$name" "/etc/${name##*/}" writable
		done
		return
	fi
	mkdir "$layer" && mount -t tmpfs -o "mode=0755,size=$2" container "$layer" || exit 125
	mkdir "$layer/lower" "$layer/upper" "$layer/work" "$root" && mount --bind "$1" "$layer/lower" || exit 125
	chmod "$(stat -c %a "$layer/lower")" "$layer/upper" && chown "$(stat -c %u:%g "$layer/lower")" "$layer/upper" || exit 125
	[ -L "$layer/lower/etc" ] || write_names "$layer"
	mount -t overlay -o "nodev,lowerdir=$layer/lower,upperdir=$layer/upper,workdir=$layer/work" overlay "$root" || exit 125
}

# Write /etc/hostname, /etc/hosts and /etc/resolv.conf, where they take the place of the image's.
write_names() { # LAYER
	etc=$1/upper/etc
	mkdir "$etc" || exit 125
	if [ -d "$1/lower/etc" ]; then
		chmod "$(stat -c %a "$1/lower/etc")" "$etc" && chown "$(stat -c %u:%g "$1/lower/etc")" "$etc" || exit 125
	fi
	echo "$hostname" >"$etc/hostname"
	{
		printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n'
		short=${hostname%%.*}
		[ "$short" != "$hostname" ] || short=''
		while read -r address; do
			printf '%s\t%s\n' "$address" "$hostname${short:+ $short}"
		done <"$here/addresses"
	} >"$etc/hosts" || exit 125
	[ ! -e "$here/resolv.conf" ] || cp "$here/resolv.conf" "$etc/resolv.conf" || exit 125
}

mount_system() {
	on /proc -t proc -o nosuid,nodev,noexec proc
	on /sys -t sysfs -o ro,nosuid,nodev,noexec sysfs
	on /dev -t tmpfs -o nosuid,noexec,mode=0755,size=64k dev
	while read -r name major minor; do
		mknod -m 666 "$root/dev/$name" c "$major" "$minor" || exit 125
		mount --bind "$root/dev/$name" "$root/dev/$name" || exit 125
	done <<-END
		null 1 3
		zero 1 5
		full 1 7
		random 1 8
		urandom 1 9
		tty 5 0
	END
	# No other device opens in the container: what it creates itself (a disk, a port to the host) is of no use to it.
	mount -o remount,bind,nosuid,noexec,nodev "$root/dev" || exit 125
	ln -s pts/ptmx "$root/dev/ptmx"
	ln -s /proc/self/fd "$root/dev/fd"
	ln -s /proc/self/fd/0 "$root/dev/stdin"
	ln -s /proc/self/fd/1 "$root/dev/stdout"
	ln -s /proc/self/fd/2 "$root/dev/stderr"
	on /dev/pts --bind /dev/pts
	on /dev/shm -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=64m shm
	on /dev/mqueue -t mqueue -o nosuid,nodev,noexec mqueue
	on /dev/vc --bind "$here/tools"
	mount -o remount,bind,ro,nosuid,nodev "$root/dev/vc" || exit 125
	directory /dev/old
}

# Root of a container owns files of /proc by which it could change the guest, or read what concerns all of it. These are the
# paths that runtimes of the OCI make read-only and mask. With CAP_SYS_ADMIN it could undo that.
protect() { # CAPABILITIES as launch.sh takes them
	case ,$1, in ,, | *,+sys_admin,* | *,+all,*) return 0 ;; esac
	for path in /proc/sys /proc/sysrq-trigger /proc/irq /proc/bus /proc/fs; do
		[ -e "$root$path" ] || continue
		mount --bind "$root$path" "$root$path" && mount -o remount,bind,ro,nosuid,nodev,noexec "$root$path" || exit 125
	done
	for path in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug \
		/proc/scsi /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware; do
		if [ -d "$root$path" ]; then
			mount -t tmpfs -o ro,nosuid,nodev,noexec,size=4k masked "$root$path" || exit 125
		elif [ -e "$root$path" ]; then
			mount --bind "$root/dev/null" "$root$path" || exit 125
		fi
	done
}

mount_given() { # SOURCE TARGET read-only|writable
	[ -e "$1" ] || fail "the mount source $1 does not exist"
	target=$(inside "$2") || exit 125
	[ "$target" != "$root" ] || fail "the mount target $2 is the container's root"
	if [ -d "$1" ]; then
		mkdir -p "$target" || exit 125
		[ -d "$target" ] || fail "the mount target $2 is no directory, but its source is one"
	else
		mkdir -p "${target%/*}" || exit 125
		[ -e "$target" ] || : >"$target" || exit 125
		[ ! -d "$target" ] || fail "the mount target $2 is a directory, but its source is not"
	fi
	mount --bind "$1" "$target" || exit 125
	options=nosuid,nodev
	[ "$3" = writable ] || options=$options,ro
	mount -o "remount,bind,$options" "$target" || exit 125
}

# -- a container's life --------------------------------------------------------------------------------------------------

# Start a container and copy its streams until it ends; exit with its exit code.
run() { # ID TERMINAL? INPUT? SPEC, then as init
	c=$here/c/$1 terminal=$2 input=$3
	mkdir "$c" 2>/dev/null || fail "there is a container $1 already"
	printf '%s\n' "$4" >"$c/spec"
	shift 4
	mkfifo "$c/1" "$c/2" "$c/status"
	if [ "$terminal" = yes ]; then
		trap '' HUP # its end is noted, even if it ends because its terminal hung up
		exec 3>&1
		supervise terminal "$@"
		[ -s "$c/ok" ] || (remove "${c##*/}")
		exit "$code"
	fi
	[ "$input" = no ] || mkfifo "$c/0"
	setsid --fork sh "$0" supervise "$c" "$input" "$@" </dev/null >/dev/null 2>&1
	read -r line <"$c/status" || line='the container has no supervisor'
	if [ ! -s "$c/ok" ]; then
		printf '%s\n' "$line"
		(remove "${c##*/}")
		exit 125
	fi
	carry "$line"
}

supervise() { # yes|no|terminal for its input, then as init; $c is set and 3 is open
	exec 4<>"$c/1" 5<>"$c/2"
	identify $$ >"$c/keeper"
	namespaces='unshare --mount --uts --ipc --pid --fork --kill-child'
	if [ "$1" = terminal ]; then
		# A subshell, because it can have its default action for a hang-up back.
		shift
		(trap - HUP && exec $namespaces sh "$0" init "$c" "$@" 2>&3 4>&- 5>&1)
	else
		input=/dev/null
		if [ "$1" = yes ]; then
			input=$c/0
			sleep $forever <>"$input" >/dev/null 2>&1 3>&- 4>&- 5>&- &
			identify $! >"$c/holder"
		fi
		shift
		$namespaces sh "$0" init "$c" "$@" <"$input" >&4 2>&3
	fi
	code=$?
	[ -s "$c/ok" ] || return 0
	echo "$code" >"$c/exit.new"
	mv "$c/exit.new" "$c/exit"
	end_input
}

keep() { # what nobody has read yet, until the container is removed; without a writer, whoever reads finds the end
	exec 6<"$c/1" 7<"$c/2" 3>&- 4>&- 5>&-
	exec sleep $forever
}

# The first process of a container: makes its root and runs its program. When it ends, all processes in it end.
init() { # CONTAINER HOSTNAME ROOT OVERLAY-SIZE READ-ONLY? MEMORY PIDS MOUNT-COUNT (SOURCE TARGET ACCESS)... then as launch.sh
	c=$1 hostname=$2 source=$3 size=$4 read_only=$5 memory=$6 pids=$7 count=$8
	shift 8
	umask 022
	read -r pid _ </proc/self/stat # still the guest's /proc
	identify "$pid" >"$c/first"
	limit
	echo "$hostname" >/proc/sys/kernel/hostname
	mount_root "$source" "$size"
	mount_system
	while [ "$count" -gt 0 ]; do
		mount_given "$1" "$2" "$3"
		shift 3
		count=$((count - 1))
	done
	[ ! -e "$here/resolv.conf" ] || [ ! -L "$source/etc" ] || mount_given "$here/resolv.conf" /etc/resolv.conf read-only
	protect "$5"
	[ "$read_only" = no ] || mount -o remount,bind,ro "$root" || exit 125
	exec 6>"$c/ok"
	cd "$root" && pivot_root . dev/old || exit 125
	cd /
	tool umount && $tool -l /dev/old || exit 125
	tool sh
	$tool /dev/vc/launch.sh "$pid" "$@"
}

tool() { # NAME: set $tool to how it is called in a container
	tool=/dev/vc/$1
	[ ! -e "$tool.dynamic" ] || tool="/dev/vc/ld.so --library-path /dev/vc $tool"
}

# A cgroup limits what a container uses; processes that enter it later join it too. Empty: no limit.
limit() {
	[ -n "$memory$pids" ] || return 0
	group=/sys/fs/cgroup/vc-${here##*/}-${c##*/}
	mkdir "$group" || exit 125
	[ -z "$memory" ] || echo "$memory" >"$group/memory.max" || fail "the guest has no memory controller of cgroup v2"
	[ -z "$pids" ] || echo "$pids" >"$group/pids.max" || fail "the guest has no pids controller of cgroup v2"
	echo 0 >"$group/cgroup.procs" || exit 125
	echo -1000 >/proc/self/oom_score_adj # the kernel must not kill this shell in place of what used the memory
}

# Report LINE, and copy between this session and a container's FIFOs until it ends; exit with its exit code.
carry() { # LINE
	input=''
	if [ -p "$c/0" ]; then
		# Opened before the report, after which the agent may end the input, and with that remove the FIFO. With 7 open in
		# both directions, opening to write does not wait for somebody who reads.
		# shellcheck disable=SC2094 # a FIFO, which nothing truncates
		exec 9<&0 7<>"$c/0" 8>"$c/0" 7>&-
		cat <&9 >&8 8>&- &
		input=$!
		exec 8>&- 9<&-
	fi
	printf '%s\n' "$1"
	# With 8 open in both directions, opening to read does not wait for somebody who writes.
	# shellcheck disable=SC2094 # a FIFO, which nothing truncates
	cat 8<>"$c/2" <"$c/2" 8>&- >&2 &
	errors=$!
	# shellcheck disable=SC2094
	cat 8<>"$c/1" <"$c/1" 8>&- &
	# shellcheck disable=SC2086 # no word if nothing carries input
	identify $input $! $errors >"$c/carriers"
	input=$(identify $input)
	wait $! $errors
	[ -z "$input" ] || echo "$input" | end 15 # it may have ended long ago
	exit "$(cat "$c/exit" || echo 255)"
}

attach() { # ID
	c=$here/c/$1
	[ -s "$c/ok" ] || fail "there is no container $1"
	stop_carriers
	read -r line <"$c/ok"
	read -r spec <"$c/spec"
	carry "$line $spec"
}

# End the copying of a broken connection, so that it takes no output of the next one.
stop_carriers() {
	[ ! -e "$c/carriers" ] || end 15 <"$c/carriers"
}

# End the copying of a connection that is closed in order, without the loss of what was read and not written yet: each
# carrier is ended while it waits to read, and has read nothing since that was seen. One that does not get there in a second,
# because nobody takes what it writes as fast as it comes, is ended all the same.
release_carriers() {
	[ -e "$c/carriers" ] || return 0
	while read -r pid began; do
		tries=0
		while [ $tries -lt 50 ] && [ "$(identify "$pid")" = "$pid $began" ]; do
			tries=$((tries + 1))
			amount=$(amount_read "$pid")
			waits=''
			read -r waits <"/proc/$pid/wchan"
			case $waits in
			*_read*) ;;
			*) sleep 0.02 && continue ;;
			esac
			kill -STOP "$pid"
			[ "$(amount_read "$pid")" != "$amount" ] || kill "$pid"
			kill -CONT "$pid"
		done 2>/dev/null
	done <"$c/carriers"
	stop_carriers
}

amount_read() ( # PID: bytes that a process has read so far (proc(5), rchar of io)
	read -r _ amount <"/proc/$1/io" && echo "$amount"
)

end_input() {
	[ -e "$c/holder" ] || return 0
	end 15 <"$c/holder"
	rm -f "$c/0" "$c/holder"
}

signal_container() { # ID SIGNAL
	c=$here/c/$1
	read -r _ pid inner <"$c/ok" || fail "there is no container $1"
	[ ! -e "$c/exit" ] && [ "$(identify "$pid")" = "$(cat "$c/first")" ] || exit 0
	nsenter --target "$pid" --pid -- sh -c "kill -$2 $inner" 2>/dev/null
	# If that was the end of the container, it was that of the shell in it too.
	case $? in 0 | 137) return 0 ;; esac
	! kill -0 "$pid" 2>/dev/null || fail "the container $1 cannot be signalled"
}

# A command runs below the shell that printed its pid; a spawner's below one that stays outside the namespace.
signal_command() { # PID SIGNAL
	child=''
	read -r child _ <"/proc/$1/task/$1/children" 2>/dev/null
	[ -n "$child" ] || exit 0
	below=''
	read -r below _ <"/proc/$child/task/$child/children" 2>/dev/null
	if [ -n "$below" ] && [ "$(readlink "/proc/$child/ns/pid")" != "$(readlink "/proc/$below/ns/pid")" ]; then
		child=$below
	fi
	case $2 in
	1 | 2 | 3 | 9 | 15) signal_session "$1" "$2" "$child" ;;
	*) kill "-$2" "$child" 2>/dev/null || [ ! -e "/proc/$child" ] ;;
	esac
}

# A signal that ends a command is for all of its session, but for what only waits for it: the shell that leads the session
# and a spawner. What was forked meanwhile is found when they are counted again.
signal_session() { # LEADER SIGNAL COMMAND
	kill "-$2" "$3" 2>/dev/null # first: a shell would report the end of what it waits for
	before=-1
	found=0
	while [ "$found" != "$before" ]; do
		before=$found
		found=0
		for stat in /proc/[0-9]*/stat; do
			text=''
			while read -r line; do text="$text $line"; done 2>/dev/null <"$stat" || continue
			# The fields after the name: state, parent, process group, session.
			# shellcheck disable=SC2086 # split into fields
			set -- "$1" "$2" "$3" ${text##*) }
			pid=${stat%/stat}
			pid=${pid#/proc/}
			if [ "${7-}" = "$1" ] && [ "$4" != Z ] && [ "$5" != "$1" ] && [ "$pid" != "$1" ] && [ "$pid" != "$3" ]; then
				kill "-$2" "$pid" 2>/dev/null
				found=$((found + 1))
			fi
		done
		[ "$2" = 9 ] || break
	done
}

remove() { # ID
	c=$here/c/$1
	[ -d "$c" ] || exit 0
	[ ! -s "$c/ok" ] || end 9 <"$c/first"
	end_input
	stop_carriers
	[ ! -e "$c/keeper" ] || end 9 <"$c/keeper"
	[ ! -p "$c/status" ] || : <>"$c/status" # a start that still reads it gets no other end
	rmdir "/sys/fs/cgroup/vc-${here##*/}-$1" 2>/dev/null # its last process may not be gone yet, and then it stays
	rm -rf "$c"
}

remove_all() {
	for c in "$here"/c/*; do
		[ ! -d "$c" ] || (remove "${c##*/}")
	done
	for place in "$here"/shares/*; do
		[ ! -d "$place" ] || umount "$place" 2>/dev/null
	done
	rm -rf "$here"
}

command=$1
shift
case $command in
setup | share | run | init | attach | signal_container | signal_command | remove | remove_all) "$command" "$@" ;;
supervise)
	c=$1
	shift
	exec 3>"$c/status"
	supervise "$@"
	[ ! -s "$c/ok" ] || keep
	;;
detach)
	c=$here/c/$1
	release_carriers
	;;
end_input)
	c=$here/c/$1
	end_input
	;;
esac
