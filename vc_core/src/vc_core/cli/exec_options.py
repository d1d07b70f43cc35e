"""The options of the commands that run a further command in a running pod: ``exec``, and ``enter`` of both kinds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

import vc_core
from vc_core.cli import environment, options, output
from vc_core.client.detach import DEFAULT_DETACH_KEYS
from vc_core.frozen import frozen

if TYPE_CHECKING:
    from vc_core.config.container import Cmd

detach_keys_option = click.option(
    "--detach-keys",
    default=DEFAULT_DETACH_KEYS,
    show_default=True,
    metavar="KEYS",
    help="With -t: keys that end virtc and not what it runs; '' for none.",
)

_OPTIONS = (
    click.option("-d", "--detach", is_flag=True, help="Leave it to run on; its output is lost."),
    click.option("-i", "--interactive", is_flag=True, help="Pass this process' input to it."),
    options.terminal_option,
    detach_keys_option,
    environment.env_option,
    environment.env_file_option,
    click.option("-u", "--user", default="", metavar="USER[:GROUP]", help="Who runs it.  [default: as the container]"),
    click.option("-w", "--workdir", default="", metavar="DIR", help="Its directory.  [default: the container's]"),
    click.option("--timeout", type=float, metavar="SECONDS", help="Kill it, and all that it started, after this time."),
)


@frozen(kw_only=True)
class ExecOptions:
    """The values of these options, by the names of their parameters."""

    detach: bool
    interactive: bool
    on_terminal: bool
    detach_keys: str
    envs: tuple[str, ...]
    env_files: tuple[str, ...]
    user: str
    workdir: str
    timeout: float | None

    def command(self, args: list[str]) -> Cmd:
        """Return the command that consists of these words, as these options want it. Raises ConfigError, UsageError."""
        if self.detach and (self.interactive or self.on_terminal or self.timeout is not None):
            raise click.UsageError("-d leaves the command to itself; omit -i, -t and --timeout")
        user, _, group = self.user.partition(":")
        variables = environment.variables(self.env_files, self.envs)
        return vc_core.Cmd(args=args, envs=variables, work_dir=self.workdir, user=user, group=group)


def takes_exec_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets ``wanted``, the :class:`ExecOptions`."""

    @functools.wraps(function)
    def build(**given: Any) -> Any:
        return function(wanted=options.take(ExecOptions, given), **given)

    return output.add_options(build, _OPTIONS)
