"""What a caller gets who does not choose."""

DEFAULT_HYPERVISOR = "qemu"
DEFAULT_AGENT = "hyperstart"
DEFAULT_GUEST = "debian"

#: PATH of a container's command where the caller gives none.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
