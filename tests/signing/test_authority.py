"""Public names of a gateway: for which hosts a signature counts."""

import pytest

from exchange.signing.authority import LOOPBACK, PublicNames


@pytest.mark.parametrize(
    ("names", "authority", "ours"),
    [
        (["api.example.com"], "api.example.com", True),
        (["api.example.com"], "API.Example.com:8443", True),
        (["api.example.com"], "api.example.com.evil.example", False),
        (["api.example.com"], "evil.example", False),
        (["api.example.com"], "", False),
        (["api.example.com"], "api.example.com:", False),
        (["api.example.com"], "api.example.com:80:80", False),
        (["api.example.com:8443"], "api.example.com:8443", True),
        (["api.example.com:8443"], "api.example.com", False),
        (["api.example.com:8443"], "api.example.com:443", False),
        (["A.example", "b.example"], "a.example", True),
        (LOOPBACK, "127.0.0.1:8080", True),
        (LOOPBACK, "[::1]:8080", True),
        (LOOPBACK, "[::1]", True),
        (LOOPBACK, "127.0.0.2:8080", False),
    ],
)
def test_a_name_stands_for_itself_and_a_name_without_port_for_every_port(names, authority, ours):
    """Hosts are compared in small letters, whole, and with the port where the name has one."""
    assert (authority in PublicNames(names)) is ours


@pytest.mark.parametrize(
    "name", ["", "https://api.example.com", "a b", "x/", "::1", "-a", "a:port"]
)
def test_what_is_no_host_is_no_name(name):
    """A name that no `Host` could have is refused when it is given."""
    with pytest.raises(ValueError, match="no host"):
        PublicNames([name])
