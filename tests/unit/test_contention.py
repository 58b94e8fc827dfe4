"""What makes a register switch by itself: many waiting sessions for a while, never one long wait."""

from ingest.domain.contention import Contention


def sampled(*counts: int) -> Contention:
    """Samples of one register, one after the other."""
    contention = Contention()
    for count in counts:
        contention = contention.after({"stock": count})
    return contention


def test_a_while_decides() -> None:
    """One crowd is forgotten, ten of them are not."""
    assert sampled(8).over(1.0) == ()
    assert sampled(*[2] * 6).over(1.0) == ()
    assert sampled(*[2] * 7).over(1.0) == ("stock",)
    assert sampled(*[2] * 7, *[0] * 3).over(1.0) == ()
    assert sampled(*[1] * 1000).over(1.0) == ()


def test_registers_are_apart() -> None:
    """Each has its own mean; one that is asked about no more is forgotten."""
    both = Contention().after({"stock": 20, "sales": 5})
    assert both.over(1.0) == ("stock",)
    assert both.after({"sales": 5}).means.keys() == {"sales"}
