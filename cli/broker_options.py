"""Where the broker is, for every command that talks to it: options, else ``PAMDI_BROKER_...``, else this machine."""

import argparse
import os
from typing import Any, Dict, Mapping

import msgspec

from pamdi.client.broker_config import BrokerConfig
from pamdi.core.errors import ConfigError

OPTIONS = {
    "url": ("--broker", "URL", "mqtt://HOST:PORT or mqtts://HOST:PORT"),
    "user": ("--user", "NAME", "user name at the broker"),
    "password_file": ("--password-file", "FILE", "file whose one line is the password"),
    "ca_file": ("--ca", "FILE", "authority of the broker's certificate (mqtts)"),
    "cert_file": ("--cert", "FILE", "own certificate, where the broker wants one"),
    "key_file": ("--key", "FILE", "key of the own certificate"),
    "prefix": ("--prefix", "PREFIX", "what all topics begin with"),
}


def add_broker_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--broker``, ``--user`` and the rest to ``parser``."""
    group = parser.add_argument_group("broker", "Each also as PAMDI_BROKER_URL, PAMDI_BROKER_USER and so on.")
    defaults = BrokerConfig()
    for field, (option, metavar, text) in OPTIONS.items():
        default = getattr(defaults, field)
        shown = f"{text} (default {default})" if default else text
        group.add_argument(option, dest=f"broker_{field}", metavar=metavar, help=shown)


def broker_from(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> BrokerConfig:
    """The broker that ``arguments`` and the environment name. Raises ConfigError for what cannot be one."""
    chosen: Dict[str, Any] = {}
    for field in OPTIONS:
        value = getattr(arguments, f"broker_{field}", None) or environment.get(f"PAMDI_BROKER_{field.upper()}")
        if value:
            chosen[field] = value
    try:
        broker = msgspec.convert(chosen, BrokerConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"broker options: {error}") from error
    broker.address()
    broker.password()
    return broker
