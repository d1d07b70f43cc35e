"""The command ``virtc``: reads arguments, calls the API, prints. One module per group of commands."""
