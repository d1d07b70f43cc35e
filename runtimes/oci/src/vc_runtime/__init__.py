"""An OCI runtime command whose containers run in virtual machines."""
