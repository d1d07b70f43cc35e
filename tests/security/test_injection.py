"""No value that a caller or a name on the host supplies becomes an option, parameter or file of its own for QEMU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vc_core.driver import Boot, Channel, HypervisorConfig, Param, PodContext, Resources, SharedDirectory
from vc_core.errors import ConfigError
from vc_hypervisor_qemu import cmdline, kernel
from vc_hypervisor_qemu.config import QemuConfig

UUID = "6b5f2f4e-3c0f-5d0e-9f57-0b6c1d0c7a11"

#: What ends or begins a value, an option, a word, a line or a string somewhere.
SPECIAL = ",, =:;\"'\\ \t\n\r\x00\x1b\x7f${}[]%/.-"

hostile = st.text(st.one_of(st.sampled_from(SPECIAL), st.characters(exclude_categories=())), max_size=30)


def pod(pod_id: str = "p1", boot: Boot | None = None, params: tuple[Param, ...] = ()) -> PodContext:
    return PodContext(
        id=pod_id,
        uuid=UUID,
        run_dir=Path("/run/p1"),
        share_dir=Path("/share"),
        resources=Resources(),
        hypervisor_config=HypervisorConfig(hypervisor_params=params),
        boot=boot or Boot(Path("/kernel"), Path("/image"), True, ("vc.x=1",)),
    )


def request(context: PodContext, channel: Channel, share: SharedDirectory, qemu: QemuConfig) -> cmdline.Request:
    names = [cmdline.MONITOR, cmdline.CONSOLE, cmdline.socket_name(channel)]
    descriptors = {name: number for number, name in enumerate(names, start=10)}
    return cmdline.Request(context, qemu, Path("/usr/bin/qemu"), "tcg", (), (channel, share), descriptors)


PLAIN = (pod(), Channel("c0", "name"), SharedDirectory("tag", Path("/directory")), QemuConfig())

#: For each value of a request: the request with it, and what QEMU must read there: in which option, after which key.
VALUES: dict[str, tuple[Callable[[str], cmdline.Request], str, str | None, Callable[[str], str]]] = {
    "id of the pod": (lambda text: request(pod(text), *PLAIN[1:]), "-name", "guest", str),
    "name of a channel": (
        lambda text: request(PLAIN[0], Channel("c0", text), *PLAIN[2:]),
        "-device",
        "name",
        str,
    ),
    "mount tag": (
        lambda text: request(*PLAIN[:2], SharedDirectory(text, Path("/directory")), PLAIN[3]),
        "-device",
        "mount_tag",
        str,
    ),
    "shared directory": (
        lambda text: request(*PLAIN[:2], SharedDirectory("tag", Path(f"/{text}")), PLAIN[3]),
        "-fsdev",
        "path",
        lambda text: str(Path(f"/{text}")),
    ),
    "kernel": (
        lambda text: request(pod(boot=Boot(Path(f"/{text}"), Path("/image"), True, ())), *PLAIN[1:]),
        "-kernel",
        None,
        lambda text: str(Path(f"/{text}")),
    ),
    "initramfs": (
        lambda text: request(pod(boot=Boot(Path("/kernel"), Path(f"/{text}"), True, ())), *PLAIN[1:]),
        "-initrd",
        None,
        lambda text: str(Path(f"/{text}")),
    ),
}


def read(argv: list[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return options and their keys and values as QEMU reads them: a value ends at a comma that is not doubled."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    words = iter(argv[1:])
    for option in words:
        if option in ("-no-user-config", "-nodefaults", "-no-reboot", "-S"):
            found.append((option, []))
            continue
        value, pairs = next(words), []
        if option in ("-kernel", "-initrd", "-append", "-uuid", "-cpu", "-m", "-smp", "-serial", "-display"):
            pairs.append(("", value))
        elif value.startswith("{"):
            pairs += [(key, str(one)) for key, one in json.loads(value).items()]
        else:
            for item in value.replace(",,", "\0").split(","):
                key, equals, text = item.replace("\0", ",").partition("=")
                pairs.append((key, text) if equals else ("", key))
        found.append((option, pairs))
    return found


def shape(argv: list[str]) -> list[tuple[str, list[str]]]:
    return [(option, [key for key, _ in pairs]) for option, pairs in read(argv)]


@pytest.mark.promise("T22")
@pytest.mark.parametrize("name", VALUES)
@given(text=hostile)
@example("x,path=/etc,readonly=off")
@example("a,,b,,,c")
@example("x\n-drive file=/etc/shadow")
@example("x -S")
def test_a_value_is_refused_or_stays_one_value_whatever_it_holds(name: str, text: str) -> None:
    make, option, key, expected = VALUES[name]
    try:
        argv = cmdline.argv(make(text))
    except ConfigError:
        return
    assert shape(argv) == shape(cmdline.argv(request(*PLAIN)))
    values = [value for one, pairs in read(argv) if one == option for found, value in pairs if found == (key or "")]
    assert expected(text) in values


@given(key=hostile, value=hostile)
@example("vc.x", "1 init=/bin/sh")
@example("a b", "")
@example("x", '"quoted words"')
def test_a_kernel_parameter_is_refused_or_stays_one_word(key: str, value: str) -> None:
    plain = kernel.command_line([]).split(" ")
    try:
        line = kernel.command_line([f"{key}={value}"])
    except ConfigError:
        return
    assert line.split() == [*plain, f"{key}={value}"]
    assert not set(line) & set("\"'\\")


@given(key=st.sampled_from(sorted(cmdline.HYPERVISOR_PARAMS)) | hostile, value=hostile)
@example("-global", "x.y=z,romfile=/etc/shadow")
@example("-rtc", "base=utc -drive")
def test_an_option_of_the_caller_is_refused_or_one_that_names_nothing_of_the_host(key: str, value: str) -> None:
    plain = cmdline.argv(request(*PLAIN))
    try:
        argv = cmdline.argv(request(pod(params=(Param(key, value),)), *PLAIN[1:]))
    except ConfigError:
        return
    at = plain.index("-kernel")
    assert (argv[:at], argv[at + 2 :]) == (plain[:at], plain[at:])
    assert argv[at] in cmdline.HYPERVISOR_PARAMS
    assert not set(argv[at + 1]) & set("/\\ \"'\n")


@pytest.mark.parametrize("uuid", ["x,y", f"{UUID} -S", f"{UUID},file=/etc/shadow", f"{UUID}\n"])
def test_what_is_no_uuid_is_refused(uuid: str) -> None:
    with pytest.raises(ConfigError, match="uuid"):
        cmdline.argv(request(replace(pod(), uuid=uuid), *PLAIN[1:]))
