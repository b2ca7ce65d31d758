"""Log lines quote no rows."""

import io

import asyncpg
import orjson
import pytest
import structlog

from exchange.cli.context import expected_fault
from exchange.cli.log import without_rows

CANARY = "Canary-Account-31d7"


@pytest.fixture
async def failed(dsn: str) -> ExceptionGroup:
    """What PostgreSQL says of a row that cannot be, wrapped as our layers wrap it."""
    owner = await asyncpg.connect(dsn)
    try:
        assert await owner.fetchval("SHOW log_error_verbosity") == "terse"
        with pytest.raises(asyncpg.CheckViolationError, match=CANARY) as caught:
            await owner.execute(
                "INSERT INTO exchange.member_link (member_no, merchant_no, merchant_member, linked_at, sealed)"
                " VALUES (1, 1, $1, now(), 'both')",
                CANARY,
            )
    finally:
        await owner.close()
    wrapped = RuntimeError("it could not be written")
    wrapped.__cause__ = caught.value
    return ExceptionGroup("several", [wrapped])


async def test_a_row_that_postgresql_quotes_is_not_logged(failed: ExceptionGroup):
    """Neither a traceback nor a sentence of PostgreSQL's tells what stood in the row; the rest is told."""
    violation = failed.exceptions[0].__cause__
    assert isinstance(violation, asyncpg.PostgresError)
    told = expected_fault(violation)
    assert told is not None
    assert CANARY not in told[1]
    stream = io.BytesIO()
    log = structlog.wrap_logger(
        structlog.BytesLogger(stream),
        processors=[
            without_rows,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
    )
    log.error("said", detail=str(violation))
    log.error("told", exc_info=failed)
    try:
        raise failed
    except ExceptionGroup:
        log.exception("caught")
    written = stream.getvalue().decode()
    assert len(written.splitlines()) == 3
    assert CANARY not in written
    assert written.count("violates check constraint") == 3
