"""The options that describe a pod, and the PodConfig that they make."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import vc_core
from vc_core.cli import completes, container_options, options, output
from vc_core.config.defaults import DEFAULT_AGENT, DEFAULT_HYPERVISOR
from vc_core.config.labels import parse_label
from vc_core.driver.kinds import PluginKind
from vc_core.errors import ConfigError, DriverNotFoundError
from vc_core.frozen import frozen

if TYPE_CHECKING:
    from vc_core.config.container import ContainerConfig
    from vc_core.config.network import NetworkConfig
    from vc_core.config.pod import HypervisorConfig, PodConfig
    from vc_core.podfile.reader import PodFile

#: The id of the container that ``pod run`` and ``pod create`` make, as in v0.1.0.
CONTAINER_ID = "1"

#: Options of agents that v0.1.0 had flags for, and the server's key, which it did not check: flag, option, value, help.
_AGENT_FLAGS = (
    ("--hyper-ctl-sock-name", "sock_ctl_name", "PATH", "Control socket of the hyperstart agent."),
    ("--hyper-tty-sock-name", "sock_tty_name", "PATH", "Stream socket of the hyperstart agent."),
    ("--sshd-server", "server", "HOST", "The sshd agent's server, instead of a guest of the pod's own."),
    ("--sshd-port", "port", "PORT", "Its port."),
    ("--sshd-user", "username", "NAME", "Who the sshd agent is there.  [default: who you are]"),
    ("--sshd-auth-file", "priv_key_file", "FILE", "The private key that it logs in with."),
    ("--sshd-host-key", "host_key", "KEY|FILE", "The server's public key."),
    ("--spawner", "spawner", "SPAWNER", "Driver that takes commands into containers, for the sshd agent."),
)

#: What completes the values of those flags, by their metavar.
_COMPLETED_AGENT_FLAGS = {
    "PATH": completes.files,
    "FILE": completes.files,
    "KEY|FILE": completes.files,
    "SPAWNER": completes.driver("spawner"),
}

#: The default of an option that the configuration file can set.
_HOST_DEFAULT = "[default: the configuration file's, else {}]"

_pod = output.group_of_options("Pod")
_container = output.group_of_options("Container")
_network = output.group_of_options("Network")
_drivers = output.group_of_options("Drivers")
_guest = output.group_of_options("Guest")

_OPTIONS = (
    _pod(
        "-f",
        "--file",
        "pod_file",
        metavar="FILE",
        shell_complete=completes.files,
        help="Make the pod that a file describes, in YAML, JSON or TOML; - is the standard input.",
    ),
    _pod(
        "--file-format",
        type=click.Choice(("yaml", "json", "toml")),
        help="Format of that file.  [default: by its suffix, or by its content]",
    ),
    _pod("--id", "pod_id", default="", metavar="POD", help="The new pod's id.  [default: a UUID]"),
    _pod("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label of the pod; repeatable."),
    _container(
        "--bundle",
        default="",
        metavar="DIR",
        shell_complete=completes.directories,
        help="The container's root file system, or what holds it as rootfs/.",
    ),
    _container(
        "--image",
        default="",
        metavar="IMAGE",
        shell_complete=completes.images,
        help="The image that the container is made of, instead of --bundle; with --kernel alone, --initramfs.",
    ),
    _container(
        "--console",
        default="",
        metavar="PATH",
        shell_complete=completes.files,
        help="Run the container on this terminal, a pty of yours.",
    ),
    _pod(
        "--pod-rootfs",
        default="",
        metavar="DIR",
        shell_complete=completes.directories,
        help="Root file system of the pod itself, for pod enter.",
    ),
    _container(
        "--init-cmd",
        help=f"The command as one string, split as a shell does.  [default: the image's, or {options.DEFAULT_COMMAND}]",
    ),
    _pod(
        "--writable-mounts", is_flag=True, help="Containers that are added while it runs can have writable mounts too."
    ),
    _pod(
        "--writable-roots",
        is_flag=True,
        help="Containers that are added while it runs can have --writable-rootfs with a directory.",
    ),
    _pod(
        "--shm-size",
        type=options.size,
        default=0,
        metavar="MIB",
        help="The /dev/shm that its containers share; 0: each has 64 MiB of its own.",
    ),
    _pod("--hostname", default="", metavar="NAME", help="Host name of the VM.  [default: the pod's id]"),
    _pod(
        "--sysctl",
        "sysctls",
        multiple=True,
        metavar="NAME=VALUE",
        help="Parameter of the guest's kernel while it runs; repeatable.",
    ),
    _pod("--cpus", type=click.IntRange(min=0), default=0, help="Virtual CPUs; 0 for the host's default."),
    _pod(
        "--memory",
        type=options.size,
        default=0,
        metavar="MIB",
        help="MiB of memory, or such as 512m or 2g; 0 for the host's default.",
    ),
    _pod(
        "--volume",
        "volumes",
        multiple=True,
        metavar="TAG:PATH[:rw]",
        help="Share a host directory with the VM; repeatable.",
    ),
    _pod(
        "--socket",
        "sockets",
        multiple=True,
        metavar="DEVICE:ID:PATH:NAME",
        help="Give the VM a serial port that is a socket here; repeatable.",
    ),
    _network(
        "--network",
        type=click.Choice(("none", "user", "tap")),
        help="How the VM is connected.  [default: none; user with --publish or --outbound, tap with --tap]",
    ),
    _network(
        "-p",
        "--publish",
        "forwards",
        multiple=True,
        metavar="[HOST:]GUEST[/udp]",
        help="Lead a port of 127.0.0.1 to a port of the VM; repeatable.",
    ),
    _network("--outbound", is_flag=True, help="Let the VM reach what this host reaches."),
    _network("--tap", default="", metavar="DEVICE", help="Connect the VM to this tap device."),
    _network("--address", "addresses", multiple=True, metavar="ADDRESS/BITS", help="Address of the VM; repeatable."),
    _network("--gateway", default="", metavar="ADDRESS", help="Default route of the VM."),
    _network(
        "--route",
        "routes",
        multiple=True,
        metavar="NETWORK/BITS[=GATEWAY]",
        help="Further route of the VM; repeatable.",
    ),
    _network(
        "--interface",
        "interfaces",
        multiple=True,
        metavar="DEVICE[,KEY=VALUE]...",
        help="Connect the VM by a further interface to this tap device too, with address=ADDRESS/BITS, "
        "route=NETWORK/BITS[=GATEWAY], mac= and mtu=; repeatable.",
    ),
    _network("--dns", multiple=True, metavar="ADDRESS", help="Name server of the VM; repeatable."),
    _drivers(
        "--agent",
        default="",
        shell_complete=completes.driver("agent"),
        help=f"Driver of the agent.  {_HOST_DEFAULT.format(DEFAULT_AGENT)}",
    ),
    _drivers(
        "--agent-option",
        "agent_options",
        multiple=True,
        metavar="NAME=VALUE",
        help="Option of that driver, see virtc drivers NAME; repeatable.",
    ),
    *(
        _drivers(flag, name, default="", metavar=metavar, shell_complete=_COMPLETED_AGENT_FLAGS.get(metavar), help=text)
        for flag, name, metavar, text in _AGENT_FLAGS
    ),
    _drivers(
        "--hypervisor",
        default="",
        shell_complete=completes.driver("hypervisor"),
        help=f"Driver of the hypervisor.  {_HOST_DEFAULT.format(DEFAULT_HYPERVISOR)}",
    ),
    _drivers(
        "--hypervisor-option",
        "hypervisor_options",
        multiple=True,
        metavar="NAME=VALUE",
        help="Option of that driver, see virtc drivers NAME; repeatable.",
    ),
    _drivers(
        "--hypervisor-path",
        default="",
        metavar="FILE",
        shell_complete=completes.files,
        help="The hypervisor's program.",
    ),
    _pod(
        "--strict/--no-strict",
        default=None,
        help="Let it start in a full jail only, or in the best there is.  [default: the configuration file's]",
    ),
    _guest(
        "--guest",
        default="",
        shell_complete=completes.driver("guest"),
        help="Driver that builds the guest.  [default: the hypervisor's]",
    ),
    options.guest_option,
    _guest(
        "--kernel",
        default="",
        metavar="FILE",
        shell_complete=completes.files,
        help="Boot this kernel instead of the built guest (with --initramfs).",
    ),
    _guest(
        "--initramfs",
        default="",
        metavar="FILE",
        shell_complete=completes.files,
        help="Boot with this initramfs or disk (with --kernel).",
    ),
    _guest(
        "--template/--no-template",
        "template",
        default=True,
        show_default=True,
        help="Start as a clone of a saved VM of the same kind, where that can be.",
    ),
    _guest(
        "--kernel-param",
        "kernel_params",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Parameter of the kernel; repeatable.",
    ),
)


@frozen(kw_only=True)
class PodOptions:
    """The values of the options that describe a pod, by the names of their parameters."""

    pod_file: str | None
    file_format: str | None
    pod_id: str
    labels: tuple[str, ...]
    agent: str
    hypervisor: str
    guest: str
    kernel: str
    image: str
    initramfs: str
    hypervisor_path: str
    kernel_params: tuple[str, ...]
    template: bool
    hypervisor_options: tuple[str, ...]
    agent_options: tuple[str, ...]
    volumes: tuple[str, ...]
    sockets: tuple[str, ...]
    writable_mounts: bool
    writable_roots: bool
    shm_size: int
    hostname: str
    sysctls: tuple[str, ...]
    cpus: int
    memory: int
    init_cmd: str | None
    console: str
    pod_rootfs: str
    network: str | None
    forwards: tuple[str, ...]
    outbound: bool
    tap: str
    addresses: tuple[str, ...]
    interfaces: tuple[str, ...]
    gateway: str
    routes: tuple[str, ...]
    dns: tuple[str, ...]
    guest_options: tuple[str, ...]
    sock_ctl_name: str
    sock_tty_name: str
    server: str
    port: str
    username: str
    priv_key_file: str
    host_key: str
    spawner: str
    strict: bool | None

    @property
    def boots_image(self) -> bool:
        """Whether ``--image`` names what the VM boots, as it did before there were images of containers."""
        return bool(self.kernel and self.image and not self.initramfs)

    def config(self, container: ContainerConfig) -> PodConfig:
        """Return the configuration of a pod with one container. Raises ConfigError, click.UsageError."""
        return vc_core.PodConfig(
            id=self.pod_id,
            vm_config=vc_core.Resources(vcpus=self.cpus, memory=self.memory),
            hypervisor_type=self.hypervisor,
            hypervisor_config=self._hypervisor_config(),
            agent_type=self.agent,
            agent_config=self._agent_config(),
            root_fs=self.pod_rootfs,
            volumes=options.parsed("--volume", vc_core.Volume.parse, self.volumes),
            sockets=options.parsed("--socket", vc_core.Socket.parse, self.sockets),
            containers=[container],
            network=self._network_config(),
            writable_mounts=self.writable_mounts,
            writable_roots=self.writable_roots,
            shm_size=self.shm_size,
            hostname=self.hostname,
            sysctls=dict(options.pair("--sysctl", text) for text in self.sysctls),
            labels=dict(map(parse_label, self.labels)),
            strict=self.strict,
        )

    def _hypervisor_config(self) -> HypervisorConfig:
        from vc_core.store.settings import read_settings

        hypervisor = self.hypervisor or read_settings().pod.hypervisor
        return vc_core.HypervisorConfig(
            kernel_path=self.kernel,
            image_path=self.image if self.boots_image else self.initramfs,
            hypervisor_path=self.hypervisor_path,
            kernel_params=[vc_core.Param.parse(text) for text in self.kernel_params],
            template=self.template,
            guest=self.guest,
            guest_options=self._guest_options(hypervisor),
            options=_read_texts("--hypervisor-option", self.hypervisor_options, PluginKind.HYPERVISOR, hypervisor),
        )

    def _guest_options(self, hypervisor: str) -> dict[str, object]:
        if not self.guest_options:
            return {}
        from vc_core.cli.driver_options import guest_texts

        return guest_texts("--guest-option", self.guest_options, self.guest, hypervisor)

    def _agent_config(self) -> dict[str, object]:
        from vc_core.store.settings import read_settings

        flags = {name: value for _, name, *_ in _AGENT_FLAGS if (value := getattr(self, name))}
        agent = self.agent or read_settings().pod.agent
        return _read_texts("--agent-option", self.agent_options, PluginKind.AGENT, agent) | flags

    def _network_config(self) -> NetworkConfig:
        implied = "tap" if self.tap else "user" if self.forwards or self.outbound else "none"
        return vc_core.NetworkConfig(
            mode=vc_core.NetworkMode(self.network or implied),
            forwards=options.parsed("--publish", vc_core.PortForward.parse, self.forwards),
            restrict=not self.outbound,
            device=self.tap,
            addresses=self.addresses,
            gateway=self.gateway,
            routes=options.parsed("--route", vc_core.Route.parse, self.routes),
            dns=self.dns,
            interfaces=options.parsed("--interface", vc_core.TapInterface.parse, self.interfaces),
        )


def _read_texts(flag: str, texts: tuple[str, ...], kind: PluginKind, name: str) -> dict[str, object]:
    """Return the options of a driver; without any, what reads them is not imported. Raises as what reads them."""
    if not texts:
        return {}
    from vc_core.cli.driver_options import read_texts

    return read_texts(flag, texts, kind, name)


def describes_pod(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a pod; the command gets ``config``, its PodConfig."""

    @functools.wraps(function)
    def build(container: Callable[..., ContainerConfig], **given: Any) -> Any:
        if given.get("interactive") or given.get("on_terminal"):
            output.expect_command()
        chosen = options.take(PodOptions, given)
        if chosen.pod_file is not None:
            file = _file(chosen.pod_file, chosen.file_format)
            config = file.config()
            try:
                return function(config=config.with_id(chosen.pod_id) if chosen.pod_id else config, **given)
            except (ConfigError, DriverNotFoundError) as error:
                raise file.document.locate(error) from error
        if chosen.file_format is not None:
            raise click.UsageError("--file-format is that of a pod file; give --file as well")
        image = "" if chosen.boots_image else chosen.image
        only = container(CONTAINER_ID, chosen.init_cmd, image, interactive=bool(chosen.console), console=chosen.console)
        return function(config=chosen.config(only), **given)

    return output.add_options(container_options.describes_container(build), _OPTIONS)


#: Parameters that describe a pod, but do not contradict a file.
_BESIDE_FILE = {"pod_file", "file_format", "pod_id"}


def _file(path: str, file_format: str | None) -> PodFile:
    """Return a pod file; "-" is the standard input. Raises ConfigError, click.UsageError."""
    from vc_core.podfile.reader import SIZE_MAX, PodFile

    _refuse_beside_file(click.get_current_context())
    if path == "-":
        return PodFile.parse(sys.stdin.buffer.read(SIZE_MAX + 1), "standard input", Path(), file_format)
    return PodFile.load(path, file_format)


def _refuse_beside_file(context: click.Context) -> None:
    """Raise click.UsageError for an option that describes a pod, beside a file that does."""
    described = {
        one.name for cls in (PodOptions, container_options.ContainerOptions) for one in fields(cls)
    } - _BESIDE_FILE
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if parameter.name in described and given:
            raise click.UsageError(
                f"--file and {max(parameter.opts, key=len)} both describe the pod; write it into the file"
            )
    if context.params["argv"]:
        raise click.UsageError("--file and a command both describe the pod; write cmd into the file")
