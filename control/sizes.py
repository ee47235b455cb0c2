"""Amounts of data in words that services and command share. Pure."""

THOUSAND = 1_000


def show_size(count: int | None) -> str:
    """`1.2 kB`, `34 MB`."""
    size, unit = float(count or 0), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < THOUSAND:
            break
        size, unit = size / THOUSAND, larger
    return f"{size:.1f}".removesuffix(".0") + f" {unit}" if size < 10 else f"{size:.0f} {unit}"  # noqa: PLR2004 a decimal says something
