"""Reading a mapping file, once for each content: checking it costs more than a hundred calls."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from adapters.kit.manifest import Manifest, decoded, parse_toml
from adapters.kit.protocols.http_mapping.mapping import MAPPING_FILE, Mapping, MappingFile
from adapters.kit.protocols.http_mapping.rules import check_rules

if TYPE_CHECKING:
    from adapters.kit.folder import Folder


def load_mapping(folder: Folder) -> Mapping:
    """Read and check the mapping file of a folder.

    The mapping's manifest has no settings: where the system is, the mapping does not depend on.

    Raises:
        SchemaError: It is malformed, does not fit the manifest, or an example contradicts its rules;
            names file, table and key.
    """
    manifest = msgspec.structs.replace(folder.manifest, settings={})
    text = folder.text(MAPPING_FILE)
    return _load(text, folder.where(MAPPING_FILE), msgspec.json.encode(manifest))


@lru_cache(maxsize=256)
def _load(text: str, where: str, manifest: bytes) -> Mapping:
    file = decoded(parse_toml(text, where=where), MappingFile, where=where)
    mapping = Mapping(file=file, manifest=msgspec.json.decode(manifest, type=Manifest), where=where)
    check_rules(mapping)
    return mapping
