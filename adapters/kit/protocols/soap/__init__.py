"""XML over SOAP 1.1 with WS-Security user names and sessions, as an airline's miles host speaks it."""

from adapters.kit.protocols.soap.client import build

__all__ = ["build"]
