import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kit import registry
from adapters.kit.contract import Incomplete, Step
from adapters.kit.protocols.form_sign import wire
from adapters.kit.protocols.form_sign.bill import read_bill
from adapters.kit.protocols.form_sign.settings import read_settings
from adapters.kit.signers import read_signer, read_verifier
from adapters.kit.simulator.form_sign import KEYS
from schemas.values.faults import SchemaError

SAMPLES = registry.find("silk-road-mall").path / "samples"
SETTINGS = read_settings(registry.find("silk-road-mall"))
DAY = dt.date(2026, 3, 2)

names = st.text("ab_", min_size=1, max_size=3) | st.just("sign")
values = st.text("aZ09 =%+/;?#'\"\\<>会员贰拾积分，。丂", max_size=8)
pairs_of_text = st.dictionaries(names, values, min_size=1, max_size=4)


def test_what_is_signed_is_sorted_and_leaves_empty_values_and_the_signature_out():
    """Golden bytes: the order of names, not of arrival; in the charset agreed."""
    pairs = {
        "points": "12.34",
        "sign_type": "RSA2",
        "member_no": "会员贰拾",
        "sign": "AAAA",
        "orig_trade_no": "",
        "app_id": "2026030200047711",
    }
    text = "app_id=2026030200047711&member_no=会员贰拾&points=12.34"
    assert wire.text_to_sign(pairs, "GBK") == text.encode("gbk")
    assert wire.text_to_sign(pairs, "UTF-8") == text.encode()


@given(pairs_of_text)
def test_pairs_survive_both_ways_of_writing(pairs):
    """A form and a JSON object in GBK give back what was written."""
    assert wire.read_form(wire.write_form(pairs, "GBK"), "GBK") == pairs
    assert wire.read_json(wire.write_json(pairs, "GBK"), "GBK") == pairs


@given(pairs_of_text, names, values)
def test_no_pair_can_be_changed_unseen(pairs, name, value):
    """Two sets of pairs with values have the same text only if they are the same."""
    pairs = {name: value for name, value in pairs.items() if value}
    changed = {name: value for name, value in (pairs | {name: value}).items() if value}
    same = wire.text_to_sign(pairs, "GBK") == wire.text_to_sign(changed, "GBK")
    without = {"sign", "sign_type"}
    assert same == (
        {n: v for n, v in pairs.items() if n not in without}
        == {n: v for n, v in changed.items() if n not in without}
    )


FORMS = [
    (b"a=1&a=2", "twice"),
    (b"a=%26b%3D2", "`&`"),
    (b"a=%0Ab", "control character"),
    (b"a b=1", "plain"),
    (b"a=%FF", "form in GBK"),
    (b"\xb2\xa2=1", "form in GBK"),
    (b"&".join(b"a%d=1" % number for number in range(101)), "form in GBK"),
    (b"a", "form in GBK"),
]


@pytest.mark.parametrize(("body", "what"), FORMS, ids=[what for _, what in FORMS])
def test_a_form_that_could_mean_two_things_is_refused(body, what):
    """No pair twice, none hidden in a value, nothing that the charset does not know."""
    with pytest.raises(SchemaError, match=what):
        wire.read_form(body, "GBK")


OBJECTS = [
    (b'{"a":"1","a":"2"}', "twice"),
    (b'{"a":1.10}', "string"),
    (b'{"a":{"b":"1"}}', "string"),
    (b'{"a":"1&b=2"}', "`&`"),
    (b'{"a":"\\ud800"}', "control character"),
    (b'["a"]', "object"),
    (b'{"a":"\xff"}', "JSON in GBK"),
    (b"[" * 100_000, "JSON in GBK"),
    (b"", "JSON in GBK"),
]


@pytest.mark.parametrize(("body", "what"), OBJECTS, ids=[what for _, what in OBJECTS])
def test_an_object_that_could_mean_two_things_is_refused(body, what):
    """No member twice, no number whose spelling is lost, nothing nested."""
    with pytest.raises(SchemaError, match=what):
        wire.read_json(body, "GBK")


def test_the_kind_of_signature_is_agreed_and_not_chosen_by_the_sender():
    """A pair `sign_type` that says otherwise makes the signature invalid, also with a right key."""
    signer = read_signer("RSA2", (KEYS / "merchant-rsa2.pem").read_bytes(), where="$")
    public = (KEYS / "merchant-rsa2-public.pem").read_bytes()
    verifier = read_verifier("RSA2", public, where="$")
    pairs = wire.signed({"a": "1"}, signer, "RSA2", "GBK")
    assert wire.is_signed(pairs, verifier, "RSA2", "GBK")
    assert not wire.is_signed(pairs | {"sign_type": "SM2"}, verifier, "RSA2", "GBK")
    assert not wire.is_signed({"a": "1"}, verifier, "RSA2", "GBK")
    with pytest.raises(ValueError, match="'a'"):
        wire.signed({"a": "1&b=2"}, signer, "RSA2", "GBK")


# --- recorded examples ---


def test_the_recorded_request_answer_and_notification_verify():
    """The samples in the folder are what the two sides really say to each other."""
    for name, who, read in (
        ("hold-request.txt", "exchange", wire.read_form),
        ("hold-answer.json", "merchant", wire.read_json),
        ("notification.txt", "merchant", wire.read_form),
    ):
        public = (KEYS / f"{who}-rsa2-public.pem").read_bytes()
        verifier = read_verifier("RSA2", public, where="$")
        pairs = read((SAMPLES / name).read_bytes().rstrip(b"\n"), "GBK")
        assert wire.is_signed(pairs, verifier, "RSA2", "GBK"), name
        assert pairs["out_trade_no"] == "AAAAAAAAAAAAAAAAAAAAAAAAAEH", name


def bill() -> bytes:
    """The recorded statement."""
    return (SAMPLES / "bill-2026-03-02.csv").read_bytes()


def read(data: bytes):
    """Read a statement of that day."""
    return read_bill(data, SETTINGS, day=DAY, zone="Asia/Shanghai", scale=2)


def test_the_recorded_statement_is_read():
    """GBK, Chinese headers, decimal points, Shanghai's time, totals."""
    lines = read(bill())
    assert [(line.step, line.member, line.units) for line in lines] == [
        (Step.HOLD, "会员贰拾", 1_234),
        (Step.CAPTURE, "会员贰拾", 1_234),
        (Step.CREDIT, "SR100001", 500),
    ]
    assert lines[0].at_us == 1_772_413_200_000_000


def altered(old: str, new: str) -> bytes:
    """The recorded statement with one text replaced."""
    text = bill().decode("gbk")
    assert old in text
    return text.replace(old, new, 1).encode("gbk")


SPOILED = [
    (b"", "ends without its totals"),
    (bill()[:-20], "totals"),
    (bill()[: bill().rindex("合计".encode("gbk"))], "ends without its totals"),
    (altered("合计,3", "合计,4"), "4 rows"),
    (altered("合计,3,29.68", "合计,3,29.69"), "2969 units"),
    (altered("5.00", "5.01"), "2968 units"),
    (altered("冻结", "冻洁"), "Line 2 .* no kind"),
    (altered("会员号", "会员"), "'会员号'"),
    (altered("2026-03-02 09:00:00", "2026-03-03 00:00:00"), "Line 2 .* another day"),
    (altered("2026-03-02 09:00:00", "2026-03-02"), "Line 2"),
    (altered("12.34", "12.345"), "Line 2 .* decimal"),
    (altered("12.34", "0.00"), "Line 2 .* moves nothing"),
    (altered("会员贰拾", ""), "Line 2 .* no member"),
    (altered("12.34,2026-03-02 09:00:00", "12.34"), "Line 2 .* fields only"),
    (bill() + bill(), "follows the totals"),
    (bill() + b"\xff", "charset"),
    (altered("会员贰拾", '"会员'), "Line"),
]


@pytest.mark.parametrize(("data", "what"), SPOILED, ids=[what for _, what in SPOILED])
def test_a_spoiled_statement_is_refused_whole_by_its_line(data, what):
    """Cut, altered, mixed with another day, or of other words: nothing of it is given."""
    with pytest.raises(Incomplete, match=what):
        read(data)


def test_samples_are_json_that_people_can_read():
    """The answer is a flat object of strings."""
    answer = json.loads((SAMPLES / "hold-answer.json").read_bytes().decode("gbk"))
    assert all(isinstance(value, str) for value in answer.values())
