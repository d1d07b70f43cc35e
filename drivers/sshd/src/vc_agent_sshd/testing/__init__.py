"""For tests of an agent that logs in to a real OpenSSH daemon."""
