"""``virtc guest``: the kernels and initramfs images that pods boot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import vc_core
from vc_core.cli import listing, options, output
from vc_core.cli.listing import Listing
from vc_core.config.defaults import DEFAULT_AGENT, DEFAULT_GUEST

if TYPE_CHECKING:
    from vc_core.driver.guest import BuiltGuest

_driver_option = click.option(
    "--guest", "guest_type", default=DEFAULT_GUEST, show_default=True, help="The driver that builds it."
)


def _begun_keys(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    guest = context.params.get("guest_type") or DEFAULT_GUEST
    return [one.key for one in vc_core.list_guests(guest=guest) if one.key.startswith(begun)]


@click.group(cls=output.Group)
def guest() -> None:
    """Build what virtual machines boot."""


@guest.command()
@click.option("--agent", default=DEFAULT_AGENT, show_default=True, help="The agent that the guest is for.")
@_driver_option
@options.guest_option
@options.json_option
def build(agent: str, guest_type: str, guest_options: tuple[str, ...], as_json: bool) -> None:
    """Build the guest for an agent with the newest kernel of the distribution, and print where it is.

    Pods build it on first use by themselves; this renews it. The JSON also has the parameters that the kernel needs.

    Example: virtc guest build
    """
    from vc_core.cli.driver_options import read_texts
    from vc_core.driver.kinds import PluginKind

    chosen = read_texts("--guest-option", guest_options, PluginKind.GUEST, guest_type)
    with output.ShownProgress() as progress:
        image = vc_core.build_guest(
            agent_type=agent,
            guest=guest_type,
            guest_options=chosen,
            progress=progress,
        )
    if as_json:
        output.print_json(image)
    else:
        output.echo(f"kernel     {image.kernel}\ninitramfs  {image.initramfs}")


@guest.command(name="list")
@_driver_option
@listing.lists("keys", "{key} {size}")
def list_(guest_type: str, listing: Listing) -> None:
    """List the guests that were built, newest last.

    Example: virtc guest list
    """
    listing.show(vc_core.list_guests(guest=guest_type), lambda one: one.key, _print_guests)


def _print_guests(found: Sequence[BuiltGuest]) -> None:
    rows = [(one.key, one.agent, f"{one.size / 2**20:.1f}", " ".join(one.made_from)) for one in found]
    output.print_table(("GUEST", "AGENT", "MIB", "MADE FROM"), rows)


@guest.command()
@click.argument("keys", nargs=-1, metavar="[GUEST...]", shell_complete=_begun_keys)
@click.option("--all", "every", is_flag=True, help="Remove all of them.")
@_driver_option
def remove(keys: tuple[str, ...], every: bool, guest_type: str) -> None:
    """Remove guests that were built; pods that boot them again build them again. Running pods are not touched.

    Downloaded packages stay in the cache for that.

    Example: virtc guest remove --all
    """
    if bool(keys) == every:
        raise click.UsageError("name the guests to remove, or give --all")
    for key in [one.key for one in vc_core.list_guests(guest=guest_type)] if every else keys:
        vc_core.delete_guest(key, guest=guest_type)
