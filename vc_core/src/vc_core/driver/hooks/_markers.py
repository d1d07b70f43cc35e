"""pluggy's markers with this project's name; drivers do not import pluggy itself."""

import pluggy

#: The project name that joins specifications and implementations.
PROJECT = "vc_core"

hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker(PROJECT)

#: Marks a method of a plug-in class as the implementation of the hook of the same name.
hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker(PROJECT)
