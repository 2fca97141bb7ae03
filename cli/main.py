"""``pamdi``: every command, and how errors look: one line that says what, where, and how to mend it.

Exit status: 0 done, 1 failed, 2 wrong use. A command's imports happen when it runs, so that a device needs only
what the daemon needs.
"""

import argparse
import importlib
import sys
from typing import List, NoReturn, Optional

from pamdi import __version__
from pamdi.core.errors import PamdiError

COMMANDS = (
    "demo", "status", "doctor", "submit", "cancel", "fleet_commands", "daemon", "controller", "engines", "calibrate",
    "allocate", "simulate",
)  # fmt: skip


EXTRAS = {"rich": "demo", "onnxruntime": "onnxruntime", "onnx": "tools", "aiohttp": "tools", "amqtt": "broker"}


class Parser(argparse.ArgumentParser):
    """Wrong use is one line as well, and the usage one command away. Every sub-command's parser is one of these."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (how it is used: {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="pamdi", description="Priority-aware model-distributed inference on a fleet of devices.",
        epilog="example: pamdi demo",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"pamdi {__version__}")
    parser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"pamdi.cli.{name}").add_parser(commands)
    return parser


def main(arguments: Optional[List[str]] = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    words = [word for word in given if word != "--debug"]  # wherever it stands
    parsed = build_parser().parse_args(["--debug", *words] if len(words) < len(given) else words)
    try:
        return int(parsed.run(parsed))
    except (KeyboardInterrupt, BrokenPipeError):
        return 1
    except (PamdiError, OSError, ModuleNotFoundError) as error:
        if parsed.debug or (isinstance(error, ModuleNotFoundError) and error.name not in EXTRAS):
            raise
        print(f"pamdi: {_line(error)}", file=sys.stderr)
        return 1


def _line(error: Exception) -> str:
    """What the system says names the file and the trouble; ours are lines already."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed: pip install 'pamdi[{EXTRAS[str(error.name)]}]'"
    if not isinstance(error, OSError):
        return str(error)
    where = error.filename if error.filename is not None else type(error).__name__
    return f"{where}: {error.strerror or error}"


if __name__ == "__main__":
    sys.exit(main())
