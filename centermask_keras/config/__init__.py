"""The configuration: one JSON file per experiment, strict and typed.

Every key must be present and no other is allowed, so that a file says everything about an experiment and a misspelt
key is an error instead of a silent default. A file may also name a complete one and what differs from it.
"""

from centermask_keras.config.complete import Config, check_files
from centermask_keras.config.formats import to_stored_json
from centermask_keras.config.reading import load_config, load_stored_config, parse_config, upgrade_file
from centermask_keras.config.sections import ModelConfig, TrainConfig

__all__ = [
    "Config",
    "ModelConfig",
    "TrainConfig",
    "check_files",
    "load_config",
    "load_stored_config",
    "parse_config",
    "to_stored_json",
    "upgrade_file",
]
