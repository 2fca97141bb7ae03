"""How to reach the broker: one struct for files, command lines and environment. Secrets come from files."""

from pathlib import Path
from typing import Optional, Tuple
from urllib.parse import urlsplit

import msgspec

from pamdi.core.errors import ConfigError
from pamdi.core.topics import PREFIX


class BrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``url``: mqtt://host[:1883] or mqtts://host[:8883]. ``password_file`` holds one line."""

    url: str = "mqtt://127.0.0.1:1883"
    user: Optional[str] = None
    password_file: Optional[str] = None
    ca_file: Optional[str] = None
    cert_file: Optional[str] = None
    key_file: Optional[str] = None
    prefix: str = PREFIX
    keepalive_s: int = 10

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
        tls = parts.scheme == "mqtts"
        return parts.hostname, port or (8883 if tls else 1883), tls

    def password(self) -> Optional[str]:
        if self.password_file is None:
            return None
        try:
            return Path(self.password_file).read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"password file {self.password_file}: {error.strerror}: check the path and mode"
            ) from error
