"""What the user does with every number."""


def double(number: int) -> int:
    return number * 2
