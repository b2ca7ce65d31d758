"""A client for partners: signs what it sends, verifies what it hears, and repeats what nobody answered."""

from exchange.client import operations
from exchange.client.identity import Identity, IdentityUnusable, load_identity, load_trusted
from exchange.client.operations import Operation, Refused
from exchange.client.signed import Answer, SignedClient
from exchange.signing.answer import AnswerNotTrusted

__all__ = [
    "Answer",
    "AnswerNotTrusted",
    "Identity",
    "IdentityUnusable",
    "Operation",
    "Refused",
    "SignedClient",
    "load_identity",
    "load_trusted",
    "operations",
]
