"""The top of the command: prints an error as one sentence on stderr, and returns the exit code."""

from __future__ import annotations

import os
from contextlib import suppress

import click

from vc_core import __version__
from vc_core.cli import tables
from vc_core.cli.output import Group, Invocation, discard_output, echo
from vc_core.errors import CommandError, CommandTimeoutError, OutputError, StorageError, VCError, refused

#: Exit code when virtc itself fails where a command's own exit code is expected (as docker, podman and env(1) do).
OWN_FAILURE = 125

#: Exit code when a command did not end in time (as timeout(1) does).
TIMED_OUT = 124


#: The module of each command: only that of the command which is given is imported.
_COMMANDS = {
    "attach": "vc_core.cli.attach",
    "check": "vc_core.cli.check",
    "completion": "vc_core.cli.completion",
    "config": "vc_core.cli.config",
    "console": "vc_core.cli.console",
    "container": "vc_core.cli.container",
    "cp": "vc_core.cli.cp",
    "drivers": "vc_core.cli.drivers",
    "events": "vc_core.cli.events",
    "exec": "vc_core.cli.exec",
    "guest": "vc_core.cli.guest",
    "image": "vc_core.cli.image",
    "kill": "vc_core.cli.kill",
    "logs": "vc_core.cli.logs",
    "metrics": "vc_core.cli.metrics",
    "new-driver": "vc_core.cli.new_driver",
    "pod": "vc_core.cli.pod",
    "prune": "vc_core.cli.prune",
    "repair": "vc_core.cli.repair",
    "restart": "vc_core.cli.restart",
    "stats": "vc_core.cli.stats",
    "template": "vc_core.cli.template",
    "wait": "vc_core.cli.wait",
}


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        echo(f"virtc, version {__version__}")
        context.exit()


@click.group(
    cls=Group,
    elsewhere=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.pass_context
def virtc(context: click.Context, debug: bool) -> None:
    """Run containers inside a virtual machine per pod."""
    context.ensure_object(Invocation).debug = debug


def run(arguments: list[str]) -> int:
    """Run a command line; return its exit code.

    That is the command's own, 1 or 125 for a failure, 2 or 125 for wrong usage, 130 if interrupted.
    """
    invocation = Invocation()
    if "_VIRTC_COMPLETE" in os.environ:
        from click.shell_completion import shell_complete

        try:
            return shell_complete(virtc, {}, "virtc", "_VIRTC_COMPLETE", os.environ["_VIRTC_COMPLETE"])
        except (VCError, OSError, ImportError):  # the line on which somebody types is no place for an error
            return 1
    try:
        context = virtc.make_context("virtc", arguments, obj=invocation)
        with context:
            code = virtc.invoke(context)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        with suppress(OSError):  # of standard error
            error.show()
        return OWN_FAILURE if invocation.runs_command else error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # Python 3.11, where it interrupts a __set_name__
            return 130
        raise
    except BrokenPipeError:
        # The reader of the output has gone; end without the interpreter's own error message at exit.
        discard_output()
        return 1
    except (VCError, OSError, ImportError) as error:
        with suppress(OSError):  # nobody can be informed if standard error cannot be written either
            if invocation.debug:
                import traceback

                traceback.print_exc()
            click.echo(f"{_name()}: {_shown(error)}", err=True)
        return _failure(error, invocation)


def _name() -> str:
    """Return the name before an error, which is red on a terminal."""
    return "\x1b[31mvirtc\x1b[0m" if tables.has_colours(2) else "virtc"


def _shown(error: Exception) -> VCError:
    if isinstance(error, VCError):
        return error
    if isinstance(error, OSError):
        return refused(error)
    return StorageError(f"this installation cannot be read, or is not whole: {error}")


def _failure(error: Exception, invocation: Invocation) -> int:
    if not invocation.runs_command:
        return 1
    if isinstance(error, CommandTimeoutError):
        return error.exit_code or TIMED_OUT
    if isinstance(error, CommandError | OutputError) and error.exit_code:
        return error.exit_code
    return OWN_FAILURE
