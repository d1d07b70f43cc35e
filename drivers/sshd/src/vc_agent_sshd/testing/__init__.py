"""For tests: an OpenSSH daemon to log in to."""
