"""Damage to the bytes of a file."""

from random import Random


def damaged(random: Random, content: bytes, told: list[str]) -> bytes:
    """The content with bits turned, cut, spliced or the like; `told` then says how."""
    changed = bytearray(content or b"x")
    at, to = sorted(random.randrange(len(changed) + 1) for _end in range(2))
    what = random.choice(("bits", "bits", "cut", "cut", "zeros", "spliced", "twice", "shifted", "whole"))
    told.append(what)
    match what:
        case "bits":
            for _bit in range(random.choice((1, 1, 5, 50))):
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
        case "cut":
            del changed[at:]
        case "zeros":
            changed[at:to] = bytes(to - at)
        case "spliced":
            del changed[at:to]
        case "twice":
            changed[at:at] = changed[at:to]
        case "shifted":
            changed[at:at] = random.randbytes(random.choice((1, 7, 512)))
    return bytes(changed)
