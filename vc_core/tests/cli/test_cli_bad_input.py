"""A table per command of invalid input: each case prints one sentence, exits with a code, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from commands import MOCK, virtc

import vc_core as vc

NO_POD = "no pod has the id 'nope'"
NO_CONTAINER = "pod 'idle' has no container 'nope'; it has '1'"

#: Words, exit code, a part of the message. Pod "idle" is ready, pod "busy" runs; both have a container "1".
CASES: dict[str, list[tuple[str, int, str]]] = {
    "pod create": [
        ("--id idle", 1, "a pod with the id 'idle' exists"),
        ("--id a/b", 1, "'a/b' is not valid"),
        ("--env =x", 1, "environment variable name ''"),
        ("--mount /tmp", 2, "--mount: mount '/tmp' is not of the form SOURCE:TARGET[:rw]"),
        ("--mount /tmp:/mnt:size=1", 2, "mount on '/mnt' has a size, but is read-only"),
        ("--mount /tmp:/mnt:rw:size=1T", 2, "has the size '1T'; give a whole number of MiB"),
        ("--mount /tmp:/mnt:rw:size=", 2, "has the size ''; give a whole number of MiB"),
        ("--mount /tmp:/mnt:rw:size=9999999999", 2, "Mount.size is 9999999999; give a whole number"),
        ("--mount /tmp:relative", 2, "'relative' is not an absolute path"),
        ("--mount /tmp:/../etc", 2, "'/../etc' is not an absolute path"),
        ("--volume nopath", 2, "is not of the form TAG:PATH[:rw]"),
        ("--volume tag-that-is-longer-than-thirty-one:/tmp", 2, "31 at most"),
        ("--socket a:b:c", 2, "is not of the form DEVICE:ID:PATH:NAME"),
        ("--agent-option novalue", 2, "is not of the form NAME=VALUE"),
        ("--agent-option colour=red", 1, "agent noop has no option 'colour'; it has none"),
        ("--hypervisor-option fail_strat=x", 1, "no option 'fail_strat' (did you mean 'fail_start'?); it has fail_"),
        ("--hypervisor-option fail_stop.x=y", 1, "option fail_stop of hypervisor mock is {'x': 'y'}; give text"),
        ("--hypervisor-option fail_stop=a --hypervisor-option fail_stop=b", 2, "option fail_stop is given twice"),
        ("--agent sshd --agent-option spawner_options=x", 2, "give NAME.KEY=VALUE for each key, or JSON"),
        ("--agent hyperstat", 1, "there is no agent driver 'hyperstat' (installed: "),
        ("--agent hyperstat", 1, "did you mean 'hyperstart'?"),
        ("--guest-option lokdown=false", 1, "no option 'lokdown' (did you mean 'lockdown'?)"),
        (
            "--guest-option lockdown=perhaps",
            1,
            "of guest driver debian is 'perhaps'; give true or false",
        ),
        ("--kernel /boot/vmlinuz", 1, "image_path is empty"),
        ("--cpus many", 2, "'many'"),
        ("--cpus -1", 2, "-1"),
        ("--network bridge", 2, "'bridge'"),
        ("--network none --publish 80", 1, "forwards need network mode user"),
        ("--network tap", 1, "network mode tap needs a device"),
        ("--publish 80:eighty", 2, "port forward '80:eighty' is not of the form [HOST:]GUEST[/udp]"),
        ("--publish 99999", 2, "PortForward.guest_port is 99999"),
        ("--publish 80", 1, "a network, which hypervisor 'mock' does not have"),
        ("--outbound --address nowhere", 1, "address 'nowhere' of the network is not valid"),
        ("--ulimit files=3", 2, "resource limit 'files' is unknown"),
        ("--ulimit nofile", 2, "is not of the form NAME=VALUE or NAME=SOFT:HARD"),
        ("--device /dev/fuse", 2, "device '/dev/fuse' is not of the form PATH=TYPE:MAJOR:MINOR[:MODE]"),
        ("--device /dev/fuse=c:10:x", 2, "is not of the form PATH=TYPE:MAJOR:MINOR[:MODE]"),
        ("--device /fuse=c:10:229", 2, "device '/fuse' is not below /dev"),
        ("--seccomp /nowhere", 2, "'/nowhere' does not exist"),
        ("--mask relative", 1, "masked_paths of container '1' has 'relative'; give absolute paths"),
        ("--cap-add FLY", 2, "capability 'CAP_FLY' is unknown"),
        ("--memory-limit -1", 2, "-1"),
        ("--memory 100k", 2, "'100k' is not a whole number of MiB"),
        ("--memory 1.5g", 2, "'1.5g' is not a whole number of MiB"),
        ("--pids-limit many", 2, "'many'"),
        ("--read-only --writable-rootfs", 1, "choose one"),
        ("--guest-option novalue", 2, "is not of the form NAME=VALUE"),
    ],
    "pod run": [
        ("--id idle", 1, "a pod with the id 'idle' exists"),
        ("-i --id idle", 125, "a pod with the id 'idle' exists"),
        ("--name x --", 2, "Did you mean '--id'?"),
        ("-v /a:/b --", 2, "Did you mean '--mount'?"),
        ("--cpus-limit 0.009", 1, "cpus is 0.009; give 0.01 or more, or 0 for no limit"),
        ("-i --env =x", 125, "variable name '' is empty"),
        ("-t", 125, "-t needs a terminal"),
        ("--timeout soon", 2, "'soon'"),
        ("--timeout 5", 2, "give -i as well, or --start-timeout"),
        ("-i --timeout 0", 125, "timeout is 0.0"),
        ("--start-timeout 0", 1, "timeout is 0.0"),
    ],
    "pod start": [("nope", 1, NO_POD), ("busy", 1, "pod 'busy' is running; starting it"), ("", 2, "no pod is given")],
    "pod stop": [("nope", 1, NO_POD), ("idle", 1, "pod 'idle' is ready; stopping it"), ("", 2, "no pod is given")],
    "pod delete": [("nope", 1, NO_POD), ("--force nope", 1, NO_POD), ("busy", 1, "pod 'busy' is running; deleting it")],
    "pod status": [("nope", 1, NO_POD), ("idle --id busy", 2, "given twice"), ("..", 1, "'..' is not valid")],
    "pod enter": [
        ("nope -- ls", 125, NO_POD),
        ("idle -- ls", 125, "pod 'idle' is ready; entering it"),
        ("busy --timeout 0 -- ls", 125, "timeout is 0.0"),
        ("busy --cmd ls -- ls", 125, "not both"),
    ],
    "container create": [
        ("nope --id c", 1, NO_POD),
        ("idle --id 1", 1, "pod 'idle' has a container '1'"),
        ("idle --id .", 1, "container id '.' is not valid"),
        ("idle", 2, "--id"),
    ],
    "container start": [
        ("nope 1", 1, NO_POD),
        ("idle 1", 1, "pod 'idle' is ready; starting container '1'"),
        ("busy 1", 1, "container '1' of pod 'busy' is running; starting it"),
        ("-i busy 1", 125, "container '1' of pod 'busy' is running; starting it"),
        ("-t busy 1", 125, "-t needs a terminal"),
    ],
    "container stop": [
        ("nope 1", 1, NO_POD),
        ("idle 1", 1, "pod 'idle' is ready; stopping container '1'"),
        ("busy nope", 1, "has no container 'nope'"),
    ],
    "container delete": [
        ("nope 1", 1, NO_POD),
        ("idle nope", 1, NO_CONTAINER),
        ("busy 1", 1, "container '1' of pod 'busy' is running; deleting it"),
    ],
    "container status": [("nope 1", 1, NO_POD), ("idle nope", 1, NO_CONTAINER), ("", 2, "no pod is given")],
    "container wait": [
        ("nope 1", 1, NO_POD),
        ("idle nope", 1, NO_CONTAINER),
        ("idle 1", 1, "container '1' of pod 'idle' is ready; waiting for the end of it"),
    ],
    "container kill": [
        ("nope 1", 1, NO_POD),
        ("idle 1", 1, "pod 'idle' is ready; sending a signal to container '1'"),
        ("busy nope", 1, "has no container 'nope'"),
        ("busy 1 --signal SIGFLY", 1, "signal 'SIGFLY' is unknown; give a name such as SIGTERM"),
        ("busy 1 --signal 65", 1, "signal '65' is unknown"),
        ("busy 1 --signal 0", 1, "signal '0' is unknown"),
    ],
    "container stats": [
        ("nope 1", 1, NO_POD),
        ("idle nope", 1, NO_CONTAINER),
        ("idle 1", 1, "pod 'idle' is ready; measuring what container '1' uses"),
        ("busy 1", 1, "cannot measure what containers use"),
    ],
    "container enter": [
        ("nope 1 -- ls", 125, NO_POD),
        ("idle 1 -- ls", 125, "pod 'idle' is ready; entering container '1'"),
        ("busy nope -- ls", 125, "has no container 'nope'"),
        ("busy 1 --env =x -- ls", 125, "variable name '' is empty"),
        ("busy 1 --env-file /nope -- ls", 125, "--env-file '/nope' cannot be read"),
        ("busy 1 --detach-keys no -- ls", 125, "detach keys 'no' are not valid"),
        ("busy 1 ls", 125, "put -- before the command"),
        ("busy 1 ls -l", 125, "put -- before the command"),
        ("busy 1", 125, "no command is given; give it after --"),
        ("busy 1 --timeout -1 -- ls", 125, "timeout is -1.0"),
        ("", 125, "no pod is given"),
    ],
    "exec": [
        ("nope ls", 125, NO_POD),
        ("idle ls", 125, "pod 'idle' is ready; entering container '1'"),
        ("busy/nope ls", 125, "has no container 'nope'"),
        ("busy/1/2 ls", 125, "names more than one container"),
        ("-it busy ls", 125, "-t needs a terminal"),
        ("--timeout 0 busy ls", 125, "timeout is 0.0"),
        ("busy", 125, "Missing argument 'CMD"),
        ("busy --", 125, "the command is empty"),
        ("", 125, "Missing argument 'POD[/CTR]'"),
    ],
    "guest build": [("--agent nope", 1, "nope"), ("--agent noop", 1, "brings no guest"), ("--guest nope", 1, "nope")],
}


@pytest.fixture
def pods(mock_config: Callable[..., vc.PodConfig]) -> Iterator[list[vc.PodStatus]]:
    for pod_id in ("idle", "busy"):
        config = mock_config(pod_id, containers=0)
        pod = vc.create_pod(config)
        pod.create_container(vc.ContainerConfig(id="1", cmd=vc.Cmd(args=["sleep"])))
    pod.start()
    yield vc.list_pods()
    pod.stop()


@pytest.mark.parametrize("command", CASES)
def test_a_command_that_cannot_work_is_refused_with_one_sentence_and_changes_nothing(
    command: str, pods: list[vc.PodStatus]
) -> None:
    for words, code, message in CASES[command]:
        mock = MOCK if command in ("pod create", "pod run") else ()
        done = virtc(*command.split(), *mock, *words.split())
        case = f"virtc {command} {words}: {done}"
        assert done.returncode == code, case
        assert message in done.stderr, case
        assert done.stdout == "", case
        sentence = done.stderr[max(0, done.stderr.find("Error: ")) :]  # after the usage, where that is shown
        assert sentence.count("\n") == 1, case
        assert vc.list_pods() == pods, case
