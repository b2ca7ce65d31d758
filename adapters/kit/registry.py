"""Finds merchants' folders, and builds the adapter and the simulator that a folder asks for.

A folder is found by its name beside this package (`adapters/merchants/<name>`), by its path, or by an
entry point of another installed package. What a protocol is made of is imported when somebody asks
for it, by name: the kit imports no merchant, and a merchant that is not used costs nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from adapters.kit.folder import Folder, open_folder
from adapters.kit.manifest import MANIFEST_FILE
from schemas.values.faults import SchemaError
from schemas.values.ids import MERCHANT_CODE_PATTERN

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from adapters.kit.context import Context
    from adapters.kit.contract import Adapter
    from adapters.kit.simulator.stage import Simulator

ENTRY_POINT_GROUP: Final = "tongdui.adapters"
ADAPTER_FILE: Final = "adapter.py"
SIMULATOR_FILE: Final = "simulator.py"
MERCHANTS: Final = Path(__file__).resolve().parents[1] / "merchants"
_CODE: Final = re.compile(MERCHANT_CODE_PATTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """Where a protocol's parts are, as `module:function`.

    Attributes:
        client: `build(folder, context) -> Adapter`.
        simulator: `serve(folder, stage)`, an asynchronous context manager of a `Running`.
    """

    client: str
    simulator: str


PROTOCOLS: Final = {
    "http-mapping": Protocol(
        client="adapters.kit.protocols.http_mapping.client:build",
        simulator="adapters.kit.simulator.http_json:serve",
    ),
    "http-callback": Protocol(
        client="adapters.kit.protocols.http_callback.client:build",
        simulator="adapters.kit.simulator.http_callback:serve",
    ),
    "form-sign": Protocol(
        client="adapters.kit.protocols.form_sign:build",
        simulator="adapters.kit.simulator.form_sign:serve",
    ),
    "soap": Protocol(
        client="adapters.kit.protocols.soap:build",
        simulator="adapters.kit.simulator.soap:serve",
    ),
    "sftp-file": Protocol(
        client="adapters.kit.protocols.sftp_file:build",
        simulator="adapters.kit.simulator.sftp_file:serve",
    ),
    "tcp-frames": Protocol(
        client="adapters.kit.protocols.tcp_frames:build",
        simulator="adapters.kit.simulator.tcp_frames:serve",
    ),
}


def names() -> list[str]:
    """Codes of all merchants that can be found, in order."""
    here = {path.parent.name for path in MERCHANTS.glob(f"*/{MANIFEST_FILE}")}
    return sorted(here | {point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def find(name: str) -> Folder:
    """Find a merchant's folder by its code.

    Raises:
        SchemaError: There is none, or its manifest is malformed or names another merchant.
    """
    if not _CODE.match(name):
        raise SchemaError(name, "Not a merchant's code")
    folder = open_folder(_place(name))
    if folder.code != name:
        raise SchemaError(
            folder.where(MANIFEST_FILE) + ".merchant.code",
            f"Expected {name!r}, as the folder is called, got {folder.code!r}",
        )
    return folder


def at(path: Path) -> Folder:
    """Open a merchant's folder that lies anywhere.

    Raises:
        SchemaError: There is no manifest in it, or it is malformed.
    """
    return open_folder(path.resolve())


def build(folder: Folder, context: Context) -> Adapter:
    """Build a merchant's adapter: the folder's own, or that of its protocol.

    Raises:
        SchemaError: A file of the folder is malformed, or the protocol is unknown.
    """
    return cast("Callable[[Folder, Context], Adapter]", _part(folder, ADAPTER_FILE))(
        folder, context
    )


def build_protocol(folder: Folder, context: Context) -> Adapter:
    """Build the adapter of a folder's protocol, for a folder's own `adapter.py` to put itself before.

    Raises:
        SchemaError: A file of the folder is malformed, or the protocol is unknown.
    """
    return cast("Callable[[Folder, Context], Adapter]", _protocol_part(folder, ADAPTER_FILE))(
        folder, context
    )


def simulator(folder: Folder) -> Simulator:
    """Find a merchant's simulator: the folder's own, or that of its protocol.

    Raises:
        SchemaError: The folder's own has no function `serve`, or the protocol is unknown.
    """
    return cast("Simulator", _part(folder, SIMULATOR_FILE))


def _place(name: str) -> Path:
    path = MERCHANTS / name
    if (path / MANIFEST_FILE).is_file():
        return path
    points = list(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not points:
        raise SchemaError(name, f"No such merchant; there are {', '.join(names()) or 'none'}")
    if len(points) > 1:
        packages = ", ".join(sorted(point.value for point in points))
        raise SchemaError(name, f"Several packages bring this merchant: {packages}")
    return _place_of(points[0])


def _place_of(point: EntryPoint) -> Path:
    """Folder of the package that an entry point names; the package itself is not run."""
    try:
        spec = importlib.util.find_spec(point.module)
    except ImportError as error:
        raise SchemaError(point.name, f"Its package {point.module} is broken: {error}") from None
    if spec is None or spec.origin is None:
        raise SchemaError(point.name, f"Its package {point.module} is not there")
    return Path(spec.origin).parent


def _part(folder: Folder, file: str) -> Any:
    function = "build" if file == ADAPTER_FILE else "serve"
    if (folder.path / file).is_file():
        return _function(_own_module(folder, file), function, folder.where(file))
    return _protocol_part(folder, file)


def _protocol_part(folder: Folder, file: str) -> Any:
    protocol = PROTOCOLS.get(folder.manifest.merchant.protocol)
    where = folder.where(MANIFEST_FILE) + ".merchant.protocol"
    if protocol is None:
        known = ", ".join(sorted(PROTOCOLS))
        raise SchemaError(where, f"Unknown, and there is no {file}; there are {known}")
    place = protocol.client if file == ADAPTER_FILE else protocol.simulator
    module, _, function = place.partition(":")
    return _function(importlib.import_module(module), function, where)


def _own_module(folder: Folder, file: str) -> ModuleType:
    """Run a folder's own module; two folders with the same code are kept apart by their path."""
    mark = hashlib.sha256(str(folder.path).encode()).hexdigest()[:16]
    name = f"tongdui_merchant_{mark}_{file.removesuffix('.py')}"
    spec = importlib.util.spec_from_file_location(name, folder.path / file)
    if spec is None or spec.loader is None:
        raise SchemaError(folder.where(file), "Cannot be loaded")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SchemaError(folder.where(file), f"{type(error).__name__}: {error}") from error
    return module


def _function(module: ModuleType, name: str, where: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError:
        raise SchemaError(where, f"Has no function {name}") from None
