"""Writes the folder of a new adapter: that of a merchant which speaks the protocol, under a new name.

A copy that passes every clause on its own simulator is a better start than an empty form: the integrator
changes one thing at a time, and the kit says what each change broke.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Final

from adapters.kit import registry
from adapters.kit.folder import open_folder
from adapters.kit.manifest import MANIFEST_FILE
from schemas.values.faults import SchemaError
from schemas.values.ids import MERCHANT_CODE_PATTERN

if TYPE_CHECKING:
    from pathlib import Path

    from adapters.kit.folder import Folder

_CODE: Final = re.compile(MERCHANT_CODE_PATTERN)
_README: Final = """# {code}

Speaks `{protocol}`. This folder is all of the adapter:

| File | What it says |
|---|---|
| `manifest.toml` | what the merchant's system can do, its limits and hours, where it is, test members |
{files}| `samples/` | recorded requests and answers; put the system's own here |

1. Change `manifest.toml`: address, scale, what the system can do.
2. Change the other files until they fit the system's own documents.
3. `tongdui adapter check {code}` says clause by clause what does not fit, and how to mend it.
4. `tongdui adapter check {code} --against URL` tries what can be tried on the system's test installation.
5. `tongdui adapter check {code} --certificate FILE` signs the report; with it the merchant can go live.
"""
_FILES: Final = {
    "mapping.toml": "| `mapping.toml` | how each operation is asked and its answer read; no code |\n",
    "adapter.py": "| `adapter.py` | what the protocol leaves open; translates and does nothing else |\n",
}


def model_of(protocol: str) -> Folder:
    """The shipped folder that new adapters of a protocol start from.

    Raises:
        SchemaError: No shipped merchant speaks it.
    """
    speaking: dict[str, list[Folder]] = {}
    for manifest in sorted(registry.MERCHANTS.glob(f"*/{MANIFEST_FILE}")):
        folder = open_folder(manifest.parent)
        speaking.setdefault(folder.manifest.merchant.protocol, []).append(folder)
    if protocol not in speaking:
        raise SchemaError(
            "protocol", f"Nobody speaks {protocol!r}; there are {', '.join(speaking)}"
        )
    marked = [each for each in speaking[protocol] if (each.path / "samples").is_dir()]
    return min(marked or speaking[protocol], key=lambda each: each.code)


def write_folder(code: str, *, protocol: str, into: Path) -> Path:
    """Write the folder of a new adapter.

    Args:
        code: The new merchant's code.
        protocol: Name in the table of protocols.
        into: Where the folder is made.

    Returns:
        The new folder.

    Raises:
        SchemaError: The code is none, the protocol is unknown, or the folder exists.
    """
    if not _CODE.match(code):
        raise SchemaError("name", f"Not a merchant's code: {code!r}")
    model = model_of(protocol)
    target = into / code
    try:
        shutil.copytree(
            model.path, target, ignore=shutil.ignore_patterns("__pycache__", ".*", "README.md")
        )
    except FileExistsError:
        raise SchemaError("name", f"{target} exists already") from None
    manifest = target / MANIFEST_FILE
    manifest.write_text(_renamed(model, code), encoding="utf-8")
    files = "".join(line for name, line in _FILES.items() if (target / name).is_file())
    (target / "README.md").write_text(
        _README.format(code=code, protocol=protocol, files=files), encoding="utf-8"
    )
    return target


def _renamed(model: Folder, code: str) -> str:
    """The model's manifest with the new code and name, and everything else as it is."""
    text = model.text(MANIFEST_FILE)
    merchant = model.manifest.merchant
    for key, old, new in (("code", merchant.code, code), ("name", merchant.name, code)):
        line = re.compile(rf'^({key}\s*=\s*)"{re.escape(old)}"', re.MULTILINE)
        text = line.sub(rf'\g<1>"{new}"', text, count=1)
    return text
