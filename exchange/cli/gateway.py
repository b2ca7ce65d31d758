"""A gateway as a process of its own, as `tongdui serve` starts it.

python -m exchange.cli.gateway --dsn DSN --socket PATH --host HOST --port PORT --home FOLDER
    [--orders SOCKET …] [--sandbox [--simulators]]
    [--tls-cert FILE --tls-key FILE [--tls-client-ca FILE]] [--private-endpoints] [--public-name HOST …]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from exchange.cli.context import run
from exchange.gateway.run import Tls, run_gateway
from exchange.signing.authority import LOOPBACK


def main() -> None:
    """Serve until asked to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--socket", required=True, type=Path)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--orders", action="append", default=[], type=Path)
    parser.add_argument("--sandbox", action="store_true")
    parser.add_argument("--simulators", action="store_true")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--tls-client-ca", type=Path)
    parser.add_argument("--private-endpoints", action="store_true")
    parser.add_argument("--public-name", action="append", default=[])
    arguments = parser.parse_args()
    run(
        run_gateway(
            dsn=arguments.dsn,
            socket_path=arguments.socket,
            host=arguments.host,
            port=arguments.port,
            home=arguments.home,
            order_paths=arguments.orders,
            sandbox=arguments.sandbox,
            simulators=arguments.simulators,
            tls=Tls(
                cert=arguments.tls_cert,
                key=arguments.tls_key,
                client_ca=arguments.tls_client_ca,
            )
            if arguments.tls_cert
            else None,
            private_endpoints=arguments.private_endpoints,
            public_names=arguments.public_name or LOOPBACK,
        )
    )


if __name__ == "__main__":
    main()
