"""Reading what the programs of Go's tests say."""

from tests.suites.catalog.golang import read_events

EVENTS = """{"Action":"start"}
{"Action":"run","Test":"TestGood"}
{"Action":"output","Test":"TestGood/case","Output":"fine"}
{"Action":"pass","Test":"TestGood/case"}
{"Action":"pass","Test":"TestGood"}
{"Action":"output","Test":"TestBad","Output":"bad_test.go:3: no"}
{"Action":"fail","Test":"TestBad"}
{"Action":"skip","Test":"TestElsewhere/file='/tmp/TestElsewhere936887440/001/x'"}
{"Action":"run","Test":"TestTorn"}
panic: test timed out
{"Action":"fail"}"""


def test_events_are_read() -> None:
    """A test that has no end has failed."""
    found = read_events(EVENTS.splitlines())
    assert {name: one.status for name, one in found.items()} == {
        "TestGood": "passed",
        "TestGood/case": "passed",
        "TestBad": "failed",
        "TestElsewhere/file='/tmp/TestElsewhere/001/x'": "skipped",
        "TestTorn": "failed",
    }
    assert found["TestBad"].said == "bad_test.go:3: no"
