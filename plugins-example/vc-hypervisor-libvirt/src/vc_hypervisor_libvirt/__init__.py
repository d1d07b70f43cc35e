"""libvirt as a hypervisor of virtcontainers: its daemon starts the virtual machine of each pod."""
