import pytest

from settlement.core.nonces import NONCE_BYTES, SLICE_SECONDS, NonceClaims, NonceMemory, Verdict

NOW = 1_700_000_000


def claims(*names: str, created: int = NOW, expires: int = NOW + 60, use: int = 1) -> NonceClaims:
    """Claims of some nonces by their names."""
    return NonceClaims(
        nonces=b"".join(name.encode().ljust(NONCE_BYTES, b".") for name in names),
        created=[created] * len(names),
        expires=[expires] * len(names),
        use=use,
    )


def test_a_nonce_counts_once_and_the_same_claim_may_be_sent_again():
    """A signature is fresh once; the very claim that used it is told the same again, any other is a replay."""
    memory = NonceMemory(began=NOW - 10)
    assert list(memory.claim(claims("a", "b", "a", use=1), now=NOW)) == [0, 0, 0]
    assert list(memory.claim(claims("a", use=1), now=NOW)) == [Verdict.FRESH]
    assert list(memory.claim(claims("c", "a", use=2), now=NOW + 59)) == [0, Verdict.REPLAYED]
    assert len(memory) == 3


def test_what_is_older_than_the_memory_or_expired_is_not_taken():
    """A signature made before the memory began, or after its end, is never fresh."""
    memory = NonceMemory(began=NOW)
    assert list(memory.claim(claims("a", created=NOW - 1), now=NOW)) == [Verdict.BEFORE_US]
    assert list(memory.claim(claims("a"), now=NOW + 61)) == [Verdict.LATE]
    assert not len(memory)


@pytest.mark.parametrize("back", [0, 100])
def test_forgetting_never_lets_a_replay_through(back: int):
    """Whatever is forgotten has expired, also for a clock that jumps back; and memory does not grow."""
    memory = NonceMemory(began=NOW)
    for second in range(200):
        now = NOW + second
        fresh = claims(f"n{second}", created=now, expires=now + 20, use=second)
        assert list(memory.claim(fresh, now=now)) == [Verdict.FRESH]
        for earlier in range(max(0, second - 40), second):
            at = NOW + earlier
            replay = claims(f"n{earlier}", created=at, expires=at + 20, use=-1)
            [verdict] = memory.claim(replay, now=now - back)
            assert verdict in (Verdict.REPLAYED, Verdict.LATE)
        assert len(memory) <= 21 + SLICE_SECONDS


def test_a_full_memory_turns_new_signatures_away_until_some_expired():
    """Beyond its bound the memory takes nothing new, still knows what it took, and has room again later."""
    memory = NonceMemory(began=NOW, remembered_max=2)
    assert list(memory.claim(claims("a", "b", "c"), now=NOW)) == [0, 0, Verdict.NO_ROOM]
    assert list(memory.claim(claims("a", use=2), now=NOW)) == [Verdict.REPLAYED]
    later = claims("c", created=NOW + 60, expires=NOW + 120)
    assert list(memory.claim(later, now=NOW + 80)) == [Verdict.FRESH]
