"""Settings that messages propose, written so that they work after `--set` when typed as printed."""

import json
import re
import shlex

from dle_training.settings import yaml_text

_PLAIN = re.compile(r"\w[\w-]*")


def setting(key: str, value: object, column: str | None = None) -> str:
    """Return `KEY=VALUE`, or the setting of one column, quoted for a shell where it needs quotes.

    `data.kinds` for the column `zip` is `data.kinds.zip=…`; for a name with other characters than letters and digits
    it is `'data.kinds={"zip code": …}'`.
    """
    if column is not None and _PLAIN.fullmatch(column):
        text = f"{key}.{column}={_written(value)}"
    else:
        text = f"{key}={_written(value if column is None else {column: value})}"
    if re.fullmatch(r"[\w.=-]*\w", text):
        return text
    quoted = shlex.quote(text)  # a mark at the end is quoted too, or it would look like one of the sentence
    return quoted if quoted != text else f"'{text}'"


def _written(value: object) -> str:
    """The value as YAML, without single quotes, which a shell needs around it."""
    if isinstance(value, str) and len(value) == 1 and not value.isalnum() and not value.isspace():
        return value
    plain = yaml_text.inline(value)
    return json.dumps(value, ensure_ascii=False) if "'" in plain else plain
