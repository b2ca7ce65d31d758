"""Whose signatures a verifier believes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.files.manifest import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from settlement.signing.signature import PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whose signatures a verifier believes, and in which role.

    Attributes:
        keys: Public keys by id.
        roles: Roles of those keys whose role the verifier knows by itself, whatever a manifest says.
    """

    keys: Mapping[str, PublicKey]
    roles: Mapping[str, str] = field(default_factory=dict)

    @property
    def operators(self) -> dict[str, PublicKey]:
        """Those keys that may speak for the operator: all but the ones whose role is known to be another."""
        return {
            name: public
            for name, public in self.keys.items()
            if self.roles.get(name, OPERATOR) == OPERATOR
        }
