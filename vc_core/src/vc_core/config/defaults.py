"""Default values of configuration fields."""

DEFAULT_HYPERVISOR = "qemu"
DEFAULT_AGENT = "hyperstart"
DEFAULT_GUEST = "debian"

#: PATH of a command whose environment has no PATH.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: A stream that is made for the caller: subprocess.PIPE, without the import of a module that only few calls need.
PIPE = -1
