"""The tracker at COPY, in both protocols: bytes are counted, and the Syncs that PostgreSQL swallows are known."""

import pytest

from tests.unit.proxy.wire.playbook import (
    BOUND,
    COPY_BOTH,
    COPY_DONE,
    COPY_IN,
    COPY_OUT,
    NO_DATA,
    PARSED,
    READY,
    ROW,
    ROWS,
    SYNC,
    Playbook,
    Turn,
    bind,
    client,
    complete,
    copy_data,
    copy_fail,
    describe_portal,
    error,
    execute,
    parse,
    play,
    query,
    server,
)

ASKED = client(parse("COPY t FROM STDIN"), bind(), describe_portal(), execute(), SYNC)
BEGUN = server(PARSED, BOUND, NO_DATA, COPY_IN)
BAD_ROW = error("22P02", "invalid input")
NEXT = (client(query("next")), server(ROWS, ROW, complete("SELECT 1"), READY))
THEN_NEXT = ["2> next", "2< SELECT 1 [I]"]


def test_copy_in() -> None:
    """A simple COPY FROM STDIN."""
    assert play(
        client(query("COPY t FROM STDIN")),
        server(COPY_IN),
        client(copy_data(b"1\n"), copy_data(b"22\n")),
        client(COPY_DONE),
        server(complete("COPY 2"), READY),
        *NEXT,
    ) == ["1> COPY t FROM STDIN", "1: copy in 5", "1< COPY 2 [I]", *THEN_NEXT]


def test_copy_out() -> None:
    """A simple COPY TO STDOUT."""
    assert play(
        client(query("COPY t TO STDOUT")),
        server(COPY_OUT, copy_data(b"1\n"), copy_data(b"22\n"), COPY_DONE, complete("COPY 2"), READY),
        *NEXT,
    ) == ["1> COPY t TO STDOUT", "1: copy out 5", "1< COPY 2 [I]", *THEN_NEXT]


def test_copy_both() -> None:
    """Replication: both sides send."""
    assert play(
        client(query("START_REPLICATION 0/0")),
        server(COPY_BOTH, copy_data(b"wal")),
        client(copy_data(b"status"), COPY_DONE),
        server(COPY_DONE, complete("COPY 0"), READY),
        *NEXT,
    ) == ["1> START_REPLICATION 0/0", "1: copy both 9 (6 in)", "1< COPY 0 [I]", *THEN_NEXT]


def test_two_copies_count_apart() -> None:
    """In one query, each has its own bytes."""
    assert play(
        client(query("COPY a FROM STDIN; COPY b FROM STDIN")),
        server(COPY_IN),
        client(copy_data(b"1\n"), COPY_DONE),
        server(complete("COPY 1"), COPY_IN),
        client(SYNC, copy_data(b"333\n"), SYNC, COPY_DONE),
        server(complete("COPY 1"), READY),
        *NEXT,
    ) == [
        "1> COPY a FROM STDIN; COPY b FROM STDIN",
        "1: copy in 2",
        "1: copy in 4",
        "1< COPY 1, COPY 1 [I]",
        *THEN_NEXT,
    ]


def test_the_double_sync_of_libpq() -> None:
    """One with Execute, which PostgreSQL reads inside COPY and ignores, and one behind CopyDone."""
    assert play(ASKED, BEGUN, client(copy_data(b"1\n"), COPY_DONE, SYNC), server(complete("COPY 1"), READY), *NEXT) == [
        "1> COPY t FROM STDIN",
        "1: copy in 2",
        "1< COPY 1 [I]",
        *THEN_NEXT,
    ]


def test_the_single_sync_of_others() -> None:
    """A client that waits for CopyInResponse sends one Sync, behind CopyDone."""
    assert play(
        client(parse("COPY t FROM STDIN"), bind(), execute()),
        server(PARSED, BOUND, COPY_IN),
        client(copy_data(b"1\n"), COPY_DONE, SYNC, query("next")),
        server(complete("COPY 1"), READY, complete("SELECT 1"), READY),
    ) == ["1> COPY t FROM STDIN", "2> next", "1: copy in 2", "1< COPY 1 [I]", "2< SELECT 1 [I]"]


def test_a_sync_inside_a_simple_copy() -> None:
    """PostgreSQL ignores it there too: the statements behind it keep their own results."""
    assert play(
        client(query("COPY t FROM STDIN"), SYNC, copy_data(b"1\n"), COPY_DONE),
        server(COPY_IN, complete("COPY 1"), READY),
        *NEXT,
    ) == ["1> COPY t FROM STDIN", "1: copy in 2", "1< COPY 1 [I]", *THEN_NEXT]


def test_all_sent_ahead() -> None:
    """COPY, its data and the next query in one go."""
    assert play(
        client(query("COPY t FROM STDIN"), copy_data(b"1\n"), COPY_DONE, query("next")),
        server(COPY_IN, complete("COPY 1"), READY, complete("SELECT 1"), READY),
    ) == ["1> COPY t FROM STDIN", "2> next", "1: copy in 2", "1< COPY 1 [I]", "2< SELECT 1 [I]"]


@pytest.mark.parametrize("late", [False, True], ids=["all sent before the error", "the rest sent after the error"])
def test_a_bad_row(*, late: bool) -> None:
    """PostgreSQL has read the first Sync with the data, and skips to the second."""
    rest = client(copy_data(b"more\n"), COPY_DONE, SYNC)
    failed = server(BAD_ROW)
    turns: list[Turn] = [failed, rest] if late else [rest, failed]
    assert play(ASKED, BEGUN, client(copy_data(b"x\n")), *turns, server(READY), *NEXT) == [
        "1> COPY t FROM STDIN",
        f"1: copy in {2 if late else 7} failed",
        "1< 22P02 invalid input [I]",
        *THEN_NEXT,
    ]


def test_a_bad_row_in_a_simple_copy() -> None:
    """Its query ends at once; the data that still comes is nobody's."""
    assert play(
        client(query("COPY t FROM STDIN")),
        server(COPY_IN),
        client(copy_data(b"x\n"), SYNC),
        server(BAD_ROW, READY),
        client(copy_data(b"more\n"), COPY_DONE),
        *NEXT,
    ) == ["1> COPY t FROM STDIN", "1: copy in 2 failed", "1< 22P02 invalid input [I]", *THEN_NEXT]


def test_a_copy_that_fails_before_it_reads() -> None:
    """As by a trigger BEFORE INSERT: both Syncs are answered. The answer too many is nobody's."""
    assert play(
        ASKED,
        client(copy_data(b"1\n"), COPY_DONE, SYNC, query("next"), query("one more")),
        BEGUN,
        server(error("P0001", "no"), READY, READY),
        server(ROWS, ROW, complete("SELECT 1"), READY, complete("SELECT 2"), READY),
    ) == [
        "1> COPY t FROM STDIN",
        "2> next",
        "3> one more",
        "1: copy in 2 failed",
        "1< P0001 no [I]",
        "2< SELECT 1 [I]",
        "3< SELECT 2 [I]",
    ]


def test_copy_fail() -> None:
    """The client gives up."""
    assert play(
        ASKED, BEGUN, client(copy_data(b"1\n"), copy_fail(), SYNC), server(error("57014", "no"), READY), *NEXT
    ) == ["1> COPY t FROM STDIN", "1: copy in 2 failed", "1< 57014 no [I]", *THEN_NEXT]


def test_a_copy_out_that_fails() -> None:
    """What was sent before is counted."""
    assert play(client(query("COPY t TO STDOUT")), server(COPY_OUT, copy_data(b"1\n"), error(), READY), *NEXT) == [
        "1> COPY t TO STDOUT",
        "1: copy out 2 failed",
        "1< 22012 division by zero [I]",
        *THEN_NEXT,
    ]


def test_another_statement_inside_copy() -> None:
    """PostgreSQL ends the session; each statement has its end, and the one inside was not run."""
    book = Playbook()
    book.take(client(query("COPY t FROM STDIN"), query("evil"), COPY_DONE))
    heard = server(COPY_IN, error("08P01", "unexpected message"), error("08P01", "lost synchronization", "FATAL"))
    assert [*book.take(heard), *book.close()] == [
        "1: copy in 0 failed",
        "1< 08P01 unexpected message [-]",
        "2< skipped [-]",
    ]


def test_the_end_of_no_copy() -> None:
    """PostgreSQL ignores CopyDone and CopyFail where no COPY is."""
    assert play(
        client(COPY_DONE, query("a"), COPY_DONE, copy_fail(), query("b")),
        server(complete("A"), READY, complete("B"), READY),
        client(COPY_DONE, query("c")),
        server(error(), READY),
    ) == ["1> a", "2> b", "1< A [I]", "2< B [I]", "3> c", "3< 22012 division by zero [I]"]


def test_a_statement_that_is_sent_between_the_error_and_its_end() -> None:
    """The first Sync was not swallowed: what comes behind it is run, and not skipped."""
    assert play(
        ASKED,
        BEGUN,
        server(error("P0001", "no")),
        client(query("evil")),
        server(READY, complete("DELETE 9"), READY),
    ) == ["1> COPY t FROM STDIN", "1: copy in 0 failed", "2> evil", "1< P0001 no [I]", "2< DELETE 9 [I]"]


@pytest.mark.parametrize(
    "behind",
    [
        [query("evil")],
        [query("evil"), SYNC],
        [bind(), execute(), SYNC],
        [copy_data(b"x"), query("evil"), SYNC],
        [COPY_DONE, query("evil"), SYNC],
        [copy_fail(), parse("evil", "s"), SYNC],
    ],
)
def test_a_statement_that_may_be_skipped_or_run(behind: list[bytes]) -> None:
    """Whether the Sync before it was swallowed by the failed COPY, nobody can tell: nothing is claimed."""
    book = Playbook()
    book.take(ASKED, client(*behind), BEGUN, server(error("P0001", "no"), READY))
    assert book.tracker.lost
    book.take(server(complete("DELETE 9"), READY))
    first, *others = book.close()
    assert first == "1< P0001 no [-]"
    assert [one.split("<")[1] for one in others] == ["  [-]"] * len(others)


def test_a_statement_that_may_be_skipped_or_run_later() -> None:
    """As above, where it was sent between the error and its ReadyForQuery, with a Sync behind it."""
    book = Playbook()
    book.take(ASKED, BEGUN, server(error("P0001", "no")), client(query("evil"), SYNC), server(READY))
    assert book.tracker.lost


def test_a_round_that_a_spare_answer_may_end() -> None:
    """Of a Bind alone: whether it was done, the ReadyForQuery does not tell."""
    book = Playbook()
    book.take(ASKED, BEGUN, server(BAD_ROW), client(COPY_DONE, SYNC), server(READY))
    book.take(client(bind(), SYNC), server(BOUND, READY))
    assert book.tracker.lost


def test_a_round_behind_a_copy_done_that_a_spare_answer_may_end() -> None:
    """What PostgreSQL ignores in front of the round changes nothing."""
    book = Playbook()
    book.take(ASKED, client(COPY_DONE, SYNC, COPY_DONE), BEGUN, server(error("P0001", "no"), READY))
    book.take(client(bind(), SYNC), server(READY))
    assert book.tracker.lost


def test_a_spare_answer_that_never_comes() -> None:
    """Is forgotten as soon as something else is answered that stood in front of it."""
    book = Playbook()
    book.take(ASKED, BEGUN, server(BAD_ROW), client(COPY_DONE, SYNC), server(READY))
    book.take(client(query("next")), server(complete("SELECT 1"), READY))
    book.take(client(bind(), SYNC), server(BOUND, READY))
    assert not book.tracker.lost
    assert not book.tracker.busy


def test_spare_answers_answer_nothing() -> None:
    """Not what was sent since: its own error comes later, and skips what is behind it."""
    book = Playbook()
    book.take(ASKED, client(SYNC), BEGUN, server(error("P0001", "no")), client(describe_portal("p")), server(READY))
    assert book.take(client(query("a")), server(READY), server(error("34000", "none"))) == ["2> a"]
    assert book.take(client(execute("p"), SYNC), server(READY), *NEXT) == [
        "3> (portal p) ",
        "2< 34000 none [I]",
        "3< skipped [I]",
        "4> next",
        "4< SELECT 1 [I]",
    ]


def test_spare_answers_end_at_an_error() -> None:
    """They would have come before it, so it is known what it skips."""
    book = Playbook()
    book.take(ASKED, BEGUN, server(BAD_ROW), client(COPY_DONE, SYNC), server(READY))
    book.take(client(execute("p")), server(error("34000", "none")))
    assert book.take(client(query("a"), SYNC), server(READY)) == ["3> a", "2< 34000 none [I]", "3< skipped [I]"]
    assert not book.tracker.lost


@pytest.mark.parametrize(
    ("answer", "size"),
    [(COPY_IN, "in 2"), (COPY_OUT, "out 5"), (COPY_BOTH, "both 7 (2 in)")],
    ids=["in", "out", "both"],
)
def test_a_copy_that_nobody_ended(answer: bytes, size: str) -> None:
    """The backend died without a word: what went through until then is on record, before the statement's end."""
    book = Playbook()
    book.take(client(query("a")), server(answer, copy_data(b"12345")), client(copy_data(b"67")))
    assert book.close() == [f"1: copy {size} failed", "1<  [-]"]


def test_copies_sent_ahead_count_apart() -> None:
    """The data of each is what stands in front of its own CopyDone, whenever PostgreSQL answers."""
    assert play(
        client(query("COPY a FROM STDIN"), copy_data(b"1\n"), COPY_DONE),
        client(query("COPY b FROM STDIN"), copy_data(b"22\n"), copy_data(b"3\n"), COPY_DONE, query("next")),
        server(COPY_IN, complete("COPY 1"), READY, COPY_IN, complete("COPY 2"), READY, complete("SELECT 1"), READY),
    ) == [
        "1> COPY a FROM STDIN",
        "2> COPY b FROM STDIN",
        "3> next",
        "1: copy in 2",
        "1< COPY 1 [I]",
        "2: copy in 5",
        "2< COPY 2 [I]",
        "3< SELECT 1 [I]",
    ]


def test_copies_out_in_one_answer_count_apart() -> None:
    """As above, where all of it comes in one go."""
    assert play(
        client(query("COPY a TO STDOUT; COPY b TO STDOUT")),
        server(COPY_OUT, copy_data(b"1\n"), COPY_DONE, complete("COPY 1")),
        server(COPY_OUT, copy_data(b"22\n"), COPY_DONE, complete("COPY 1"), READY),
    ) == ["1> COPY a TO STDOUT; COPY b TO STDOUT", "1: copy out 2", "1: copy out 3", "1< COPY 1, COPY 1 [I]"]


def test_what_nobody_took_counts_for_no_other_copy() -> None:
    """Data that came behind a COPY's failure is not the next one's."""
    assert play(
        client(query("COPY a FROM STDIN")),
        server(COPY_IN, BAD_ROW, READY),
        client(copy_data(b"late\n"), COPY_DONE, query("COPY b FROM STDIN"), copy_data(b"1\n"), COPY_DONE),
        server(COPY_IN, complete("COPY 1"), READY),
    ) == [
        "1> COPY a FROM STDIN",
        "1: copy in 0 failed",
        "1< 22P02 invalid input [I]",
        "2> COPY b FROM STDIN",
        "2: copy in 2",
        "2< COPY 1 [I]",
    ]
