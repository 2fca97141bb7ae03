"""What a broker or the network said, in words that help: what is the matter, and how to mend it.

A broker that turns somebody away says little, and nothing at all where the mistake is TLS against a plain listener or
the reverse; what was asked for then tells what the silence means.
"""

from typing import Callable, NamedTuple, Optional, Tuple

from pamdi.client.broker_config import BrokerConfig

CLOSED = "the connection was closed before the broker answered"
NOT_AUTHORIZED, TOO_LARGE, TAKEN_OVER = 135, 149, 142  # MQTT 5


class Trouble(NamedTuple):
    """``lasting``: the same try again ends the same way, until a person has mended something."""

    said: str
    cure: str
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.said}: {self.cure}"


def understood(problem: str, broker: BrokerConfig) -> Trouble:
    """``problem``: what the MQTT library or the system said about ``broker``."""
    said = problem.lower()
    found = next((answer for words, answer in _ANSWERS if any(word in said for word in words)), None)
    trouble = found(said, broker) if found is not None else None
    return trouble or Trouble(problem, "check the url, a firewall, and that the broker listens on more than loopback")


def not_accepted(reason: int, topic: str, broker: BrokerConfig) -> str:
    """A message that the broker did not take, in one line."""
    who = f"user {broker.user}" if broker.user else "who names no user"
    if reason == NOT_AUTHORIZED:
        cure = f"add `topic write {topic}` for it to the access list (examples/mosquitto.acl)"
        return f"broker {broker.url} does not let {who} publish to {topic}: {cure}"
    if reason == TOO_LARGE:
        limits = "max_packet_size and message_size_limit"
        return f"broker {broker.url}: a message to {topic} is too large: raise {limits} in mosquitto.conf"
    return f"broker {broker.url} did not accept a message to {topic} (MQTT reason {reason}): look at the broker's log"


def taken_over(client_id: str) -> Trouble:
    return Trouble(
        "the broker ends the connection again and again: MQTT session taken over, it seems, "
        f"another client uses the name {client_id}", "stop one of the two, or give it another id",
    )  # fmt: skip


def _certificate(said: str, broker: BrokerConfig) -> Trouble:
    host = broker.address()[0]
    if "not valid for" in said or "match" in said:
        cure = f"use a name that is in it, or make one for {host} (examples/make-certs.sh)"
        return Trouble(f"the broker's certificate is not for {host}", cure, True)
    if "expired" in said or "not yet valid" in said:
        return Trouble("the broker's certificate is not valid now", "check this machine's clock, or renew it", True)
    if broker.ca_file:
        cure = "give the ca.crt that belongs to this broker (--ca FILE, or ca_file under [broker])"
        return Trouble(f"the broker's certificate is not signed by {broker.ca_file}", cure, True)
    cure = "give the authority's file: --ca FILE, or ca_file under [broker]"
    return Trouble("the broker's certificate is signed by nobody this machine knows", cure, True)


def _own_certificate(said: str, broker: BrokerConfig) -> Trouble:
    return Trouble("the broker wants a certificate of ours", "give --cert FILE and --key FILE", True)


def _ended(said: str, broker: BrokerConfig) -> Trouble:
    """Closed in the middle of the first words: whoever speaks TLS to a plain listener meets this, and the reverse."""
    host, port, tls = broker.address()
    if tls:
        cure = "write mqtt:// for a plain listener, or the port of the TLS listener (8883 by default)"
        return Trouble(f"port {port} does not speak TLS", cure)
    cure = f"write mqtts://{host}:{port} with --ca FILE if it is a TLS listener, else mend the port"
    return Trouble(f"port {port} closed the connection without a word", cure)


def _login(said: str, broker: BrokerConfig) -> Trouble:
    if broker.user is None:
        return Trouble(
            "the broker lets nobody in without a user", "user and password: give --user NAME and --password-file FILE",
            True,
        )  # fmt: skip
    cure = "user and password: set both as the broker knows them (mosquitto_passwd)"
    return Trouble(f"the broker does not accept user {broker.user} with this password", cure, True)


def _refused(said: str, broker: BrokerConfig) -> Trouble:
    cure = "start the broker, or mend the port: sudo systemctl status mosquitto"
    if broker.url == BrokerConfig().url:  # the default: most likely nobody said where it is
        cure = "start the broker here, or say where it is: --broker URL, PAMDI_BROKER_URL, or url under [broker]"
    return Trouble(f"connection refused, nothing listens on port {broker.address()[1]}", cure)


def _always(said: str, cure: str) -> Callable[[str, BrokerConfig], Optional[Trouble]]:
    return lambda problem, broker: Trouble(said, cure)


_Answer = Callable[[str, BrokerConfig], Optional[Trouble]]
_NAME = _always("the host's name is unknown here", "mend the url, or use an address")
_ANSWERS: Tuple[Tuple[Tuple[str, ...], _Answer], ...] = (
    (("certificate verify failed",), _certificate),
    (("certificate required", "alert handshake failure", "alert certificate"), _own_certificate),
    (("not authori", "user name or password"), _login),
    (("refused",), _refused),
    ((CLOSED, "reset by peer", "eof occurred", "ssl", "broken pipe"), _ended),
    (("name or service", "name resolution", "nodename"), _NAME),
    (("no route", "unreachable"), _always("no network to the broker", "check cable, WiFi, address")),
    (("too many open files",), _always("too many open files", "raise LimitNOFILE, or see what holds them")),
)
