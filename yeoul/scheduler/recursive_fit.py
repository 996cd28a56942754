"""RecursiveFit: what each of several inputs costs, learnt from one observation after the other; knows nothing of steps.

Called by StepBudget. Least squares in which what is older counts less, without negative costs. Where what was seen of late
does not tell two costs apart, or says nothing of one, they stay as near as can be to what they were.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

_MEMORY = 0.6  # what a further observation leaves of the weight of earlier ones
_INERTIA = 1e-4  # the weight of what was believed before, beside that of an observation
_LARGEST_JUMP = 3.0  # times what is expected of the known: more is an accident, and says little of the next one

_Matrix = list[list[float]]


class RecursiveFit:
    """What is expected of inputs is the sum of their products with ``costs``, which are sought when they are asked for."""

    def __init__(self, num_inputs: int) -> None:
        self._costs = [0.0] * num_inputs
        self._is_current = True
        self._products: _Matrix = [[0.0] * num_inputs for _ in range(num_inputs)]  # of inputs with each other
        self._values = [0.0] * num_inputs  # products of inputs with what was observed

    @property
    def costs(self) -> list[float]:
        """What each input costs, none less than nothing."""
        if not self._is_current:
            self._costs, self._is_current = self._solve(), True
        return self._costs

    def predict(self, inputs: Sequence[float]) -> float:
        """The value expected of ``inputs``; 0 where nothing is known of the like."""
        return _dot(self.costs, inputs)

    def learn(self, inputs: Sequence[float], value: float) -> None:
        """Takes an observation. It counts by the size of its inputs, so the caller brings them to one scale."""
        size = _dot(inputs, inputs)
        num_alike = _dot(inputs, [_dot(row, inputs) for row in self._products]) / size**2  # by their weight
        if num_alike >= 1.0:
            value = min(value, _LARGEST_JUMP * _dot(inputs, self._values) / num_alike / size)
        for index, number in enumerate(inputs):
            self._values[index] = _MEMORY * self._values[index] + number * value
            row = self._products[index]
            for place, other in enumerate(inputs):
                row[place] = _MEMORY * row[place] + number * other
        # What is new is understood before it is forgotten; more of the known can wait until somebody asks.
        self._is_current = num_alike < 1.0
        if self._is_current:
            self._costs = self._solve()

    def _solve(self) -> list[float]:
        """The costs that fit best; one that would fall too far falls as far as it may, and the others are sought again."""
        costs = [cost / _LARGEST_JUMP for cost in self._costs]
        free = list(range(len(costs)))
        while free:
            rows = [
                [self._products[row][column] + _INERTIA * (row == column) for column in free]
                + [self._values[row] - _dot(self._products[row], costs) + _INERTIA * (self._costs[row] - costs[row])]
                for row in free
            ]
            rises = _eliminate(rows)
            lowest = min(range(len(rises)), key=rises.__getitem__)
            if rises[lowest] >= 0.0:
                for index, rise in zip(free, rises, strict=True):
                    costs[index] += rise
                break
            del free[lowest]
        return costs


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    total: float = sum(map(operator.mul, left, right))  # of equally many
    return total


def _eliminate(rows: _Matrix) -> list[float]:
    """Solves linear equations, a row of coefficients and right side each, whose matrix is positive definite."""
    for index, pivot in enumerate(rows):
        for row in rows[index + 1 :]:
            factor = row[index] / pivot[index]
            for column in range(index, len(pivot)):
                row[column] -= factor * pivot[column]
    found: list[float] = []
    for index in range(len(rows) - 1, -1, -1):
        row = rows[index]
        found.insert(0, (row[-1] - _dot(found, row[index + 1 : -1])) / row[index])
    return found
