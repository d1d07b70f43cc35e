"""pluggy's markers under this project's name; the only way in which drivers meet pluggy."""

import pluggy

#: The project name that joins specifications and implementations.
PROJECT = "vc_core"

hookspec = pluggy.HookspecMarker(PROJECT)

#: Marks a method of a plug-in class as the implementation of the hook of the same name.
hookimpl = pluggy.HookimplMarker(PROJECT)
