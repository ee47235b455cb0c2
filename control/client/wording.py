"""Small turns of phrase that several reports share."""


def count(number: int, noun: str) -> str:
    """As `2 records`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
