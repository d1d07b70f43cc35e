"""Configuration of pods, containers and commands: frozen dataclasses; a value that is not valid raises ConfigError.

Names are those of virtcontainers v0.1.0 in snake_case. Sequences may be given as any sequence and are kept as tuples.
"""
