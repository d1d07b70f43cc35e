"""User Mode Linux as a hypervisor of virtcontainers: a Linux kernel that is an ordinary process of the host."""
