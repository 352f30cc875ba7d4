"""Settings as TOML, for `viscera config show` and the documentation."""

import json

from pydantic import BaseModel, SecretStr

from viscera.config import Settings


def describe_settings(settings: Settings) -> str:
    """Return every setting in force as TOML, its meaning as a comment.

    What has no value, and what is secret, is a comment as well: `load_settings` takes the text.
    """
    lines: list[str] = []
    for name in Settings.model_fields:
        section = getattr(settings, name)
        lines += [f"# {(type(section).__doc__ or '').strip()}", f"[{name}]"]
        for key, field in type(section).model_fields.items():
            value = getattr(section, key)
            if isinstance(value, SecretStr) and value == field.default:
                value = value.get_secret_value()
            mark = "# " if value is None or isinstance(value, SecretStr) else ""
            lines.append(f"{mark}{key} = {as_toml(value) or ''}  # {field.description}")
        lines.append("")
    return "\n".join(lines)


def as_toml(value: object) -> str | None:
    """Return one value as TOML; None where TOML has no word for it."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case SecretStr():
            return f'"{value}"'
        case tuple():
            return f"[{', '.join(as_toml(item) or '' for item in value)}]"
        case BaseModel():
            shown = ((key, as_toml(getattr(value, key))) for key in type(value).model_fields)
            return "{ " + ", ".join(f"{k} = {v}" for k, v in shown if v is not None) + " }"
        case _:
            return json.dumps(str(value), ensure_ascii=False)
