"""The combinatorial number system: sets of numbers by their rank, without listing them."""

from __future__ import annotations

from math import comb, isqrt

# Numbers above which a set is found by one walk instead of by a search for each of them.
_MANY = 32


def combination(index: int, count: int, n: int) -> list[int]:
    """The `index`-th set of `count` numbers below `n`, ascending (the combinatorial number system)."""
    if count > _MANY:
        return _large_combination(index, count, n)
    chosen = []
    high = n - 1
    for left in range(count, 0, -1):
        if left == 1:
            high = index
        elif left == 2:
            high = (isqrt(8 * index + 1) + 1) // 2
        else:
            low = left - 1
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if comb(middle, left) <= index else (low, middle - 1)
        index -= comb(high, left)
        chosen.append(high)
        high -= 1
    return chosen[::-1]


def _large_combination(index: int, count: int, n: int) -> list[int]:
    """`combination` by one walk down from n, each binomial from the one before it."""
    chosen = []
    high, left = n - 1, count
    ways = comb(high, left)
    while left:
        if ways <= index:
            index -= ways
            chosen.append(high)
            # C(high - 1, left - 1) of C(high, left)
            ways = ways * left // high if high else 0
            high, left = high - 1, left - 1
        else:
            ways = ways * (high - left) // high
            high -= 1
    return chosen[::-1]
