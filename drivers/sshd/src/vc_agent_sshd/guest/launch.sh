#!/bin/sh
# Executes a program as a user. Runs in a container's root, with the tools mounted there, or in the guest itself:
#
#   sh launch.sh FIRST WORKDIR USER GROUP ADDITIONAL-GROUPS CAPABILITIES NO-NEW-PRIVS LIMITS NAME=VALUE... PROGRAM ARGUMENT...
#
# CAPABILITIES are those of its bounding set, as setpriv(1) takes them; empty leaves all. LIMITS are options of prlimit(1).
# FIRST is the pid of the container's first process if PROGRAM is its program, else empty. Errors are printed on
# stderr, with exit code 127 (not found), 126 (not executable) or 125.
set -uf
here=${0%/*}
first=$1 workdir=$2 user=$3 group=$4 additional=$5 capabilities=$6 no_new_privs=$7 limits=$8
shift 8

fail() { # CODE WORDS
	code=$1
	shift
	echo "${first:+error $code }$*" >&2
	exit "$code"
}

tool() { # NAME: print how it is called
	case $here in
	/dev/vc) [ ! -e "$here/$1.dynamic" ] || printf %s "$here/ld.so --library-path $here " && echo "$here/$1" ;;
	*) echo "$1" ;;
	esac
}

# The container's own tables are read here, not by a C library, which would load code that they name.
uid='' gid=0 home=/ name=''
if [ -f /etc/passwd ]; then
	while IFS=: read -r entry _ number primary _ directory _; do
		if [ "$entry" = "${user:-0}" ] || [ "$number" = "${user:-0}" ]; then
			uid=$number gid=$primary home=${directory:-/} name=$entry
			break
		fi
	done </etc/passwd
fi
if [ -z "$uid" ]; then
	case ${user:-0} in
	*[!0-9]*) fail 125 "user '$user' is not in /etc/passwd" ;;
	esac
	uid=${user:-0}
fi

groups='' wanted=",$(IFS=' ' && for one in $additional; do printf '%s,' "$one"; done)"
if [ -f /etc/group ]; then
	while IFS=: read -r entry _ number members; do
		if [ -n "$group" ] && { [ "$entry" = "$group" ] || [ "$number" = "$group" ]; }; then
			gid=$number group=''
		fi
		case $wanted in
		*",$entry,"*)
			groups=$groups,$number wanted=${wanted%%",$entry,"*},${wanted#*",$entry,"}
			continue
			;;
		esac
		case ,$members, in
		*",$name,"*) [ -z "$user" ] || [ -z "$name" ] || groups=$groups,$number ;;
		esac
	done </etc/group
fi
case $group in
*[!0-9]*) fail 125 "group '$group' is not in /etc/group" ;;
?*) gid=$group ;;
esac
IFS=,
for one in $wanted; do
	case $one in
	'') ;;
	*[!0-9]*) fail 125 "group '$one' is not in /etc/group" ;;
	*) groups=$groups,$one ;;
	esac
done
unset IFS

cd -- "$workdir" 2>/dev/null || fail 125 "working directory '$workdir' cannot be entered"

path='' program=''
for word; do
	case $word in
	PATH=*) path=${word#PATH=} ;;
	*=*) ;;
	*) program=$word && break ;;
	esac
done
found=''
case $program in
*/*) found=$program ;;
*)
	IFS=:
	for directory in $path; do
		[ -n "$program" ] && [ -f "$directory/$program" ] || continue
		found=$directory/$program
		[ ! -x "$found" ] || break
	done
	unset IFS
	;;
esac
[ -n "$found" ] && [ -e "$found" ] || fail 127 "$program: not found"
[ ! -d "$found" ] || fail 126 "$program: is a directory"
[ -x "$found" ] || fail 126 "$program: permission denied, is it executable?"

read -r hostname </proc/sys/kernel/hostname
set -- "HOSTNAME=$hostname" "HOME=$home" ${name:+"USER=$name"} "$@"
[ ! -t 0 ] || set -- TERM=xterm "$@"
# shellcheck disable=SC2046 # tool prints one word or two
set -- "--reuid=$uid" "--regid=$gid" ${capabilities:+"--bounding-set=$capabilities" --inh-caps=-all} -- $(tool env) -i "$@"
[ "$no_new_privs" = no ] || set -- --no-new-privs "$@"
groups=${groups#,}
if [ -n "$groups" ]; then set -- "--groups=$groups" "$@"; else set -- --clear-groups "$@"; fi
if [ -n "$first" ]; then
	echo 0 >/proc/$$/oom_score_adj
	echo "ok $first $$" >&6
	echo "ok $first $$" >&3
	exec 2>&5 3>&- 4>&- 5>&- 6>&-
fi
# A user can open its own streams anew, as by /dev/stderr: they are pipes or a terminal.
for fd in 0 1 2; do
	[ "$uid" != 0 ] || continue
	[ -p "/proc/self/fd/$fd" ] || [ -t "$fd" ] || continue
	# shellcheck disable=SC2046 # tool prints one word or two
	$(tool chown) "$uid" "/proc/self/fd/$fd"
done
# shellcheck disable=SC2046 # tool prints one word or two
exec ${limits:+$(tool prlimit) $limits} $(tool setpriv) "$@"
