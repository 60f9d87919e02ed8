"""Who may have how many ranges in flight. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def shares(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """``total`` ranges among those that are copying, by their priorities; each gets one at least.

    What rounding leaves over goes to those with the largest remainders, names deciding between equals.
    """
    whole = sum(weights.values())
    if not whole:
        return {}
    exact = {name: total * weight / whole for name, weight in weights.items()}
    given = {name: max(1, int(share)) for name, share in exact.items()}
    left = total - sum(given.values())
    for name in sorted(exact, key=lambda name: (int(exact[name]) - exact[name], name)):
        if left <= 0:
            break
        given[name] += 1
        left -= 1
    return given
