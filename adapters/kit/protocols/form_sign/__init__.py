"""The form-and-sign gateway common in China: sorted pairs, RSA2 or SM2, GBK or UTF-8, notifications."""

from adapters.kit.protocols.form_sign.client import build

__all__ = ["build"]
