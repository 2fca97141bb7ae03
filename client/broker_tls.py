"""The TLS settings of a broker connection, from the files that a person named."""

import ssl

from pamdi.client.broker_config import BrokerConfig
from pamdi.core.errors import ConfigError


class _Socket(ssl.SSLSocket):
    """Closed when its handshake fails, in which case the MQTT library forgets it: a broker that turns us away for a day
    would leave thousands to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except BaseException:
            self.close()
            raise


def tls_context(broker: BrokerConfig) -> ssl.SSLContext:
    """Raises ConfigError for a file that is absent, unreadable or no certificate: waiting does not mend those."""
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
    except OSError as error:
        raise ConfigError(f"ca_file {broker.ca_file}: {_why(error)}: give the PEM file of the authority") from error
    context.sslsocket_class = _Socket
    if broker.cert_file is not None:
        try:
            context.load_cert_chain(broker.cert_file, broker.key_file)
        except OSError as error:
            files = f"cert_file {broker.cert_file}, key_file {broker.key_file}"
            raise ConfigError(f"{files}: {_why(error)}: give a PEM certificate and its key") from error
    return context


def _why(error: OSError) -> str:
    return (error.strerror or str(error)) if not isinstance(error, ssl.SSLError) else "not what it should hold"
