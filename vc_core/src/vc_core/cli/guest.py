"""``virtc guest``: the kernels and initramfs images that pods boot."""

from __future__ import annotations

import click

from vc_core.cli import output
from vc_core.defaults import DEFAULT_AGENT, DEFAULT_GUEST


@click.group()
def guest() -> None:
    """Build what virtual machines boot."""


@guest.command()
@click.option("--agent", default=DEFAULT_AGENT, show_default=True, help="The agent that the guest is for.")
@click.option("--guest", "guest_type", default=DEFAULT_GUEST, show_default=True, help="The driver that builds it.")
def build(agent: str, guest_type: str) -> None:
    """Build the guest for an agent with the newest kernel of the distribution, and print where it is.

    Pods build it on first use by themselves; this renews it.

    Example: virtc guest build
    """
    import asyncio

    from vc_core import boot
    from vc_core.plugins import Plugins
    from vc_core.roots import Roots

    plugins = Plugins()
    request = boot.guest_request(plugins, agent, {}, Roots.from_environment().cache)
    driver = plugins.guest(guest_type)
    builder = driver.create(driver.config({}))
    with output.ShownProgress() as progress:
        image = asyncio.run(builder.build(request, progress))
    click.echo(f"kernel     {image.kernel}\ninitramfs  {image.initramfs}")
