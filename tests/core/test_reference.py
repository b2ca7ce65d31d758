"""References of calls to merchants' systems."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kit.contract import Call, Outcome, Receipt, Step
from adapters.kit.reference import REFERENCE_LENGTH, reference_of, step_of
from schemas.values.reason import Reason


@given(st.uuids(), st.sampled_from(Step))
def test_a_reference_names_one_step_of_one_order(order, step):
    """A reference reads back to its order and step, and fits the narrowest field without escaping."""
    reference = reference_of(order, step)
    assert step_of(reference) == (order, step)
    assert len(reference) == REFERENCE_LENGTH
    assert set(reference) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


def test_a_reference_of_another_form_is_not_ours():
    """Another length, letter, case or padding bits, and a step that there is not, are refused."""
    good = reference_of(uuid.UUID(int=0), Step.HOLD)
    for bad in (
        "",
        good[:-1],
        good + "H",
        good.lower(),
        good[:-1] + "X",
        "1" + good[1:],
        good[:25] + "B" + "H",
    ):
        with pytest.raises(ValueError, match="reference"):
            step_of(bad)


def test_calls_and_receipts_cannot_contradict_themselves():
    """A refusal has a reason and nothing else has, an expected answer is unknown, a capture names its hold."""
    done = Outcome.DONE
    with pytest.raises(ValueError, match="refused"):
        Receipt(outcome=Outcome.REFUSED)
    with pytest.raises(ValueError, match="done"):
        Receipt(outcome=done, reason=Reason.MERCHANT_REFUSED)
    with pytest.raises(ValueError, match="done"):
        Receipt(outcome=done, expected=True)
    for step, units, of in ((Step.HOLD, 0, ""), (Step.HOLD, 1, "x"), (Step.CAPTURE, 1, "")):
        with pytest.raises(ValueError, match=r"units|reference"):
            Call(step=step, reference="r", member="m", units=units, of=of)
