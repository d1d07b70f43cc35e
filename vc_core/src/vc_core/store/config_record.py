"""The file ``config.json``: the configuration that the caller gave."""

from __future__ import annotations

import msgspec

from vc_core.config.pod import PodConfig
from vc_core.errors import ConfigError
from vc_core.store.records import SCHEMA, decode, encode


class ConfigRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of the file."""

    schema: int = SCHEMA
    config: PodConfig


def encode_config(config: PodConfig) -> bytes:
    """Return a configuration's JSON. Raises ConfigError for what JSON cannot hold in a driver's option."""
    try:
        return encode(ConfigRecord(config=config))
    except UnicodeEncodeError as error:
        raise ConfigError(f"text {error.object!r} of the configuration is not in UTF-8; give another") from error
    except (TypeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"the options of a driver cannot be written as JSON: {error}") from error


def decode_config(data: bytes, path: str) -> PodConfig:
    """Return the configuration that a file holds; ``path`` names the file in errors. Raises StorageError."""
    return decode(data, path, ConfigRecord).config
