"""What an agent copies into containers and out of them; the client imports this without the rest of agents."""

from __future__ import annotations

from vc_core.frozen import frozen


@frozen
class GuestCopy:
    """What is copied between a container's files and the streams of a process, as a tar archive in GNU's format.

    ``path`` is resolved as a process of the container does. Out of the guest (not ``into``): what is there becomes the
    entry ".", and what is below it has names relative to that; a link is written as one unless ``follow``.
    Into it: the entry "." becomes ``path``, or ``name`` in it if it is a directory. With an empty ``name`` the entries
    are put into the directory ``path``, which is made if it is missing. The entries come with the owners and modes that
    they get.
    """

    path: str
    into: bool = False
    name: str = ""
    follow: bool = False
