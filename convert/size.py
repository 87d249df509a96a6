"""Sizes and time spans as people read them, the same everywhere."""

UNITS = ("B", "kB", "MB", "GB", "TB")


def size(size_bytes: float) -> str:
    """Write a size with three digits in decimal units, as the Hub and disk makers count."""
    amount, unit = float(size_bytes), UNITS[0]
    for unit in UNITS:
        if abs(amount) < 999.5 or unit == UNITS[-1]:
            break
        amount /= 1000
    digits = 0 if unit == "B" or abs(amount) >= 99.95 else 1 if abs(amount) >= 9.995 else 2
    return f"{amount:.{digits}f} {unit}"


def duration(seconds: float) -> str:
    """Write a time span in the unit that fits; tenths only of what is no whole number."""
    if seconds < 9.95 and isinstance(seconds, float):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
