"""Secrets, by reference: a manifest says where one is, never what it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

_BYTES_MAX: Final = 65_536
"""A key or a certificate chain; whatever is larger was not meant."""


class Secrets:
    """Reads secrets from the environment and from files; their bytes appear in no log and no repr."""

    def __init__(
        self,
        given: Mapping[str, bytes] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Make a reader.

        Args:
            given: Secrets that are known already, by reference, as a simulator invents them; these
                come before the environment and the files.
            environment: Where `env:` looks; the process's own if None.
        """
        self._given = dict(given or {})
        self._environment = os.environ if environment is None else environment

    def has(self, reference: str) -> bool:
        """Whether `read` would find something."""
        try:
            self.read(reference, where="$")
        except SchemaError:
            return False
        return True

    def read(self, reference: str, *, where: str) -> bytes:
        """The secret that `env:NAME` or `file:/absolute/path` names; a last line end is cut off.

        Args:
            reference: As the manifest has it.
            where: Path of the field that holds the reference, for complaints.

        Raises:
            SchemaError: The reference is malformed, or there is no such secret, or it is empty.
        """
        if reference in self._given:
            return self._given[reference]
        kind, _, name = reference.partition(":")
        if kind == "env" and name:
            return self._from_environment(name, where)
        if kind == "file" and Path(name).is_absolute():
            return _from_file(Path(name), where)
        # Not quoted: somebody may have put the secret itself there.
        raise SchemaError(where, 'Expected "env:NAME" or "file:/absolute/path"')

    def _from_environment(self, name: str, where: str) -> bytes:
        value = self._environment.get(name, "")
        if not value:
            raise SchemaError(where, f"The environment variable {name} is not set")
        return value.encode()


def _from_file(path: Path, where: str) -> bytes:
    try:
        with path.open("rb") as file:
            value = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise SchemaError(where, f"{path} cannot be read: {error.strerror}") from None
    if len(value) > _BYTES_MAX:
        raise SchemaError(where, f"{path} is larger than {_BYTES_MAX} bytes")
    value = value.removesuffix(b"\n").removesuffix(b"\r")
    if not value:
        raise SchemaError(where, f"{path} is empty")
    return value
