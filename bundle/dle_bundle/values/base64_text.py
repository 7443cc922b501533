"""Decodes base64 text, the form of images in JSON requests."""

import binascii


def decode_base64(text: str) -> bytes:
    """Decode base64 text, with or without the prefix of a data URI; raises ValueError for anything else."""
    body = text.partition(",")[2] if text[:5].lower() == "data:" else text
    try:
        return binascii.a2b_base64("".join(body.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"expected base64, got {text!r:.40}") from None
