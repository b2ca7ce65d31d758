"""Where secrets come from, and where they must not go."""

import pytest

from adapters.kit.secret import Secrets
from schemas.values.faults import SchemaError


def test_secret_is_read_from_environment_or_file(tmp_path):
    """A reference names a variable or a file; the file's last line end is no part of the secret."""
    (tmp_path / "key").write_bytes(b"s3cret\r\n")
    secrets = Secrets({"env:GIVEN": b"given"}, environment={"KEY": "k", "GIVEN": "other"})
    assert secrets.read("env:KEY", where="$") == b"k"
    assert secrets.read("env:GIVEN", where="$") == b"given"
    assert secrets.read(f"file:{tmp_path}/key", where="$") == b"s3cret"


@pytest.mark.parametrize(
    "reference",
    ["env:ABSENT", "env:", "file:relative", "file:/no/such/file", "hunter2", "text:hunter2"],
)
def test_secret_that_cannot_be_read_names_the_field_and_shows_nothing(reference):
    """The complaint names the field, and repeats no word that may itself be the secret."""
    secrets = Secrets(environment={"ABSENT": ""})
    with pytest.raises(SchemaError) as refused:
        secrets.read(reference, where="$.settings.auth.secret")
    assert refused.value.path == "$.settings.auth.secret"
    assert "hunter2" not in str(refused.value)
    assert not secrets.has(reference)
    assert "given" not in repr(Secrets({"env:GIVEN": b"given"}))
