"""The event loop of the tests: it ends only when the connections of its test have ended."""

import asyncio
from typing import Any, Final

_TURNS_MAX: Final = 200


class SettledLoop(asyncio.SelectorEventLoop):
    """A loop that is closed with no connection left.

    What a test closes last is gone only when the loop has turned a few more times, and so is the other end in the same
    process. A loop that is closed before that leaves them to the garbage collector, whose warnings then fail whatever
    test runs at that moment. What is still open after these turns was never closed: the test that left it is told.
    """

    def close(self) -> None:
        """Let connections that are closing end, then close.

        Raises:
            AssertionError: A connection was left open.
        """
        if self.is_closed():
            return
        turns = 0
        while self._open() and turns < _TURNS_MAX:
            self._turn()
            turns += 1
        left = self._open()
        said = [f"{transport!r} of {transport.get_protocol()!r}" for transport in left]
        for transport in left:
            transport.abort()
        self._turn()
        super().close()
        assert not said, f"left open when the loop closed: {', '.join(said)}"

    def _open(self) -> list[Any]:
        """Connections whose socket is still there."""
        return [transport for transport in self._transports.values() if transport._sock]  # type: ignore[attr-defined] # asyncio's own

    def _turn(self) -> None:
        """Do what is due now, and wait for nothing."""
        self.call_soon(self.stop)
        self.run_forever()

    async def _accept_connection2(
        self, factory: Any, conn: Any, extra: Any, sslcontext: Any, server: Any, *limits: Any
    ) -> None:
        """Take a connection, unless its server was closed since it came.

        asyncio trips over that one, forgets it, and leaves its socket to the garbage collector.
        """
        if server.is_serving():
            await super()._accept_connection2(factory, conn, extra, sslcontext, server, *limits)  # type: ignore[misc] # asyncio's own
        else:
            conn.close()
