# Line after line of Python, 650,000 of them: what the line engine's probe fires at.
import copy


def lines():
    return copy.deepcopy(list(range(50_000)))


lines()
