"""Base64 text, as JSON requests carry images, becomes bytes."""

import binascii


def decode_base64(text: str) -> bytes:
    """The bytes that base64 text stands for, with or without the head of a data URI; ValueError for anything else."""
    body = text.partition(",")[2] if text[:5].lower() == "data:" else text
    try:
        return binascii.a2b_base64("".join(body.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"expected base64, got {text!r:.40}") from None
