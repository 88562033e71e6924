"""Whether a request can be run on this node: what needs a machine to check, and what the log must not see."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from actors import languages
from actors.catalogue import Catalogue
from actors.vault import Vault, split
from events import codec, spec
from events.errors import TooLarge, Validation


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that can be stored."""

    spec: spec.Spec
    secrets: dict[str, str]
    digest: str
    """A hash of everything asked for except the values of secrets."""


T = TypeVar("T")
_submit = msgspec.json.Decoder(spec.Submit)


def read(body: bytes) -> spec.Submit:
    """Read a request; `Validation` says which field is wrong."""
    return parse(_submit, body)


def parse(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read any request, turning every way it can be wrong into a sentence."""
    try:
        return decoder.decode(body or b"{}")
    except msgspec.ValidationError as error:
        text = str(error)
        field = text.split("`$.")[1].split("`")[0] if "`$." in text else None
        raise Validation(text, **({"field": field} if field else {})) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Validation(f"this is not JSON: {error}") from None
    except RecursionError:
        raise Validation("this JSON is nested too deeply") from None


def admit(ask: spec.Submit, vault: Vault, default_timeout_ms: int | None, catalogue: Catalogue) -> Admitted:
    """Check a request against this machine and part its secrets from what may be stored."""
    plain = catalogue.admit(spec.check(ask), asked=ask.priority != "medium")
    env, hidden = split(ask.env)
    secrets = {**ask.secrets, **hidden}
    for name in ("code", "stdin"):
        text = getattr(plain, name)
        if isinstance(text, str) and len(text.encode()) > spec.BIG:
            raise TooLarge(
                f"{name} is larger than {spec.BIG} bytes: put it into the object store BRAIN_BLOBS under its "
                f'SHA-256 and send {{"blob": "<sha256>"}} in its place',
                field=name,
                limit=spec.BIG,
            )
    language = plain.language
    if language is not None:
        row = languages.find(language)
        if row.program is None:
            raise Validation(
                f"{row.name} is not installed on this node: install {' or '.join(row.programs)}, "
                f"or use one of {', '.join(languages.available())}",
                field="language",
            )
        language = row.name
    _check_places(plain)
    whole = msgspec.structs.replace(
        plain,
        env=env,
        secrets=vault.hashes(secrets),
        language=language,
        timeout_ms=plain.timeout_ms or default_timeout_ms,
    )
    asked = msgspec.structs.replace(whole, secrets=dict.fromkeys(sorted(secrets), ""))
    parts = [codec.encode(asked)]
    if ask.delay_ms is not None or ask.at is not None:
        parts.append(codec.encode(spec.Submit(delay_ms=ask.delay_ms, at=ask.at)))
    return Admitted(whole, secrets, codec.digest(parts)[:32])


def _check_places(plain: spec.Spec) -> None:
    if plain.working_dir is not None:
        if not Path(plain.working_dir).is_absolute():
            raise Validation("working_dir must be an absolute path", field="working_dir")
        if not Path(plain.working_dir).is_dir():
            raise Validation(f"working_dir {plain.working_dir} is not a folder here", field="working_dir")
    if plain.script is not None:
        if plain.working_dir is None and not Path(plain.script.path).is_absolute():
            raise Validation("a relative script.path needs a working_dir", field="script.path")
        path = Path(plain.working_dir or "/") / plain.script.path
        if not path.is_file() or not os.access(path, os.R_OK):
            raise Validation(f"script {path} does not exist or cannot be read", field="script.path")
