"""Starts the service, or asks a running one whether it is well."""

import argparse
import sys
from pathlib import Path
from urllib.request import urlopen

from .server import serve
from .store import Store


def main() -> int:
    """Reads the command line and does what it says."""
    parser = argparse.ArgumentParser(prog="notes-service")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--folder", type=Path, default=Path("."))
    parser.add_argument("--check", action="store_true", help="ask the one that runs here")
    arguments = parser.parse_args()
    if arguments.check:
        with urlopen(f"http://127.0.0.1:{arguments.port}/", timeout=2) as answer:
            return 0 if answer.status == 200 else 1
    server = serve(arguments.host, arguments.port, Store(arguments.folder))
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
