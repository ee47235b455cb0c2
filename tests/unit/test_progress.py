"""What a long campaign says of itself."""

from tests.faults.progress import EVERY_S, Progress


def test_a_line_now_and_then_with_the_time_that_is_left() -> None:
    """As many rounds as have passed tell how long the others take; in between it is silent."""
    now, said = 0.0, list[str]()
    progress = Progress("kill", 1_000, clock=lambda: now, say=said.append)
    for _ in range(100):
        now += EVERY_S / 40
        progress.step("late 0")
    assert said == [
        "kill: 40 of 1000 rounds in 0:00:30, 0:12:00 left; late 0",
        "kill: 80 of 1000 rounds in 0:01:00, 0:11:30 left; late 0",
    ]
