"""Verifies one package in a process of its own, and prints how long that took.

python -m exchange.bench.checker PACKAGE KEYS
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from time import perf_counter

from settlement.core.report import Unreadable
from settlement.service.verification import verify_package
from settlement.signing.keyring import Keyring


def main() -> None:
    """Verify, and say in JSON what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("keys", type=Path)
    arguments = parser.parse_args()
    trusted = Keyring.open(arguments.keys).package_trust().keys
    began = perf_counter()
    report = verify_package(arguments.package, trusted=trusted)
    seconds = perf_counter() - began
    failed = [report.english] if isinstance(report, Unreadable) else list(report.failed)
    json.dump({"seconds": seconds, "ok": report.ok, "failed": failed}, sys.stdout)


if __name__ == "__main__":
    main()
