"""How to reach the broker: one struct for files, command lines and environment. Secrets come from files."""

from pathlib import Path
from typing import Optional, Tuple
from urllib.parse import urlsplit

import msgspec

from pamdi.core.errors import ConfigError
from pamdi.core.topics import PREFIX, valid_id

KEEPALIVE_S_MAX = 600  # a broker notices a dead client after one and a half times as long


class BrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``url``: mqtt://host[:1883] or mqtts://host[:8883]. ``password_file`` holds one line. Raises ValueError for a
    prefix that topics cannot begin with, and for a keep-alive that MQTT does not know."""

    url: str = "mqtt://127.0.0.1:1883"
    user: Optional[str] = None
    password_file: Optional[str] = None
    ca_file: Optional[str] = None
    cert_file: Optional[str] = None
    key_file: Optional[str] = None
    prefix: str = PREFIX
    keepalive_s: int = 10

    def __post_init__(self) -> None:
        if not all(valid_id(part) for part in self.prefix.split("/")):
            raise ValueError(f"prefix {self.prefix!r}: words of letters, digits, _ . - with / between them")
        if not 1 <= self.keepalive_s <= KEEPALIVE_S_MAX:
            raise ValueError(f"keepalive_s is {self.keepalive_s}: 1 to {KEEPALIVE_S_MAX}")

    def client_id(self, name: str) -> str:
        """What ``name`` is called at the broker, where fleets with other prefixes may have one of that name."""
        return name if self.prefix == PREFIX else f"{self.prefix}/{name}"

    def address(self) -> Tuple[str, int, bool]:
        """Host, port, and whether TLS is wanted. Raises ConfigError."""
        parts = urlsplit(self.url)
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"broker url {self.url!r}: {error}: write mqtt://HOST:PORT") from error
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.password:
            raise ConfigError(
                f"broker url {self.url!r}: write mqtt://HOST:PORT or mqtts://HOST:PORT, no password in it"
            )
        try:
            parts.hostname.encode("idna")  # as whoever looks the name up does
        except UnicodeError as error:
            raise ConfigError(f"broker url {self.url!r}: no host can have that name: write mqtt://HOST:PORT") from error
        tls = parts.scheme == "mqtts"
        return parts.hostname, port or (8883 if tls else 1883), tls

    def password(self) -> Optional[str]:
        if self.password_file is None:
            return None
        try:
            password = Path(self.password_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not text"
            raise ConfigError(f"password file {self.password_file}: {why}: check the path and mode") from error
        if not password:
            raise ConfigError(f"password file {self.password_file} is empty: write the password into it, one line")
        return password
