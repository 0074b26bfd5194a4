"""What the user's component does with a number."""


def one_more(number: int) -> int:
    return number + 1
