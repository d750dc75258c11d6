"""The numbered steps from an empty database to the schema of today."""

from importlib.resources import files

from gateway.domain.errors import StoreUnusable


def steps() -> list[str]:
    """The text of each step, in order; the schema's version is how many have been taken."""
    texts = [file for file in files(__name__).iterdir() if file.name.endswith(".sql")]
    return [file.read_text(encoding="utf-8") for file in sorted(texts, key=lambda file: file.name)]


def steps_from(version: int) -> list[str]:
    """What is left to do at *version*; raise `StoreUnusable` if no step leads there."""
    known = steps()
    if version > len(known):
        raise StoreUnusable(
            f"the store has version {version} of the schema and this gateway knows no more than"
            f" {len(known)}: start one at least as new as the last that used the store"
        )
    return known[version:]


def statements(step: str) -> list[str]:
    """The statements of *step*; none of ours has a semicolon at the end of a line within it."""
    return [text for text in step.split(";\n") if text.strip()]
