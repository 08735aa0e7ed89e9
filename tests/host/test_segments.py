"""What a client is sent of an answer that several engines write."""

import json

from router.host.segments import Segment, SegmentWriter, goes_on
from router.host.sse import EventWriter, Head
from router.ipc.messages import Submit
from router.types import Usage
from router.watched import Continued

OWN = Head(id="chatcmpl-own", model="large", kind="chat", created=9)
BEFORE = Continued(
    id="chatcmpl-first",
    created=5,
    opened=True,
    prompt_tokens=20,
    completion_tokens=3,
    cached_tokens=16,
    sent=4,
    model="small",
    wrote=(("small", 3),),
)


def submit(**more):
    return Submit(id=1, kind="chat", body=b"{}", **more)


def writer(segment, kind="chat", **options):
    head = segment.head(Head(id="own", model="large", kind=kind, created=9))
    return SegmentWriter(head, segment, model="large", prompt_tokens=30, **options)


def events(*written):
    lines = b"".join(written).decode().split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def texts(found):
    return [event["choices"][0]["delta"]["content"] for event in found]


def test_a_request_of_one_engine_has_no_segment():
    assert Segment.of(submit(continue_text="as releases before sent it")) is None


def test_a_watched_request_has_one_with_nothing_before():
    assert Segment.of(submit(watch=b"{}", continue_text="x")) == Segment()


def test_only_what_the_client_knows_of_makes_a_request_go_on():
    assert not goes_on(submit(continue_text="x"))
    assert not goes_on(submit(continued=Continued(told=True)))
    assert goes_on(submit(continue_text="x", continued=Continued()))
    assert goes_on(submit(continued=Continued(id="chatcmpl-first")))
    assert goes_on(submit(continued=Continued(opened=True)))


def test_the_answer_keeps_the_id_the_time_and_the_model_that_the_client_was_told():
    assert Segment("text", BEFORE).head(OWN) == Head(id="chatcmpl-first", model="small", kind="chat", created=5)
    assert Segment().head(OWN) == OWN


def test_more_characters_sent_than_there_are_mean_all():
    assert Segment("text", Continued(sent=9)).unsent == ""
    assert Segment("text", Continued(sent=-1)).unsent == "text"


def test_an_open_stream_gets_no_second_role_event():
    assert writer(Segment("text", BEFORE)).role(0) == b""
    opening = writer(Segment("", Continued(id="x", model="small"))).role(0)
    assert events(opening)[0]["choices"][0]["delta"]["role"] == "assistant"


def test_events_are_those_of_one_engine_that_has_written_it_all():
    head = Head(id="chatcmpl-first", model="small", kind="chat", created=5)
    alone = EventWriter(head, prompt_tokens=20, continuous_usage=True)
    behind = writer(Segment("text", BEFORE), continuous_usage=True)
    assert behind.text(0, " more", 2) == alone.text(0, " more", 5)
    assert behind.finish(0, ".", 3, "stop", None) == alone.finish(0, ".", 6, "stop", None)
    assert behind.sent == "text more."


def test_usage_counts_the_prompt_once_and_the_tokens_of_all():
    segment = Segment("text", BEFORE)
    assert segment.usage(Usage(31, 4, 24), 27) == Usage(20, 7, 16)
    unsaid = Segment("text", Continued(completion_tokens=3))
    assert unsaid.usage(Usage(31, 4, 29), 27) == Usage(27, 7, 27)


def test_the_closing_event_tells_what_each_model_wrote():
    (event,) = events(writer(Segment("text", BEFORE)).usage(Usage(31, 4)))
    assert event["usage"] == {
        "prompt_tokens": 20,
        "total_tokens": 27,
        "completion_tokens": 7,
        "headgate": {"small": 3, "large": 4},
    }


def test_one_model_that_goes_on_by_itself_is_not_told_apart():
    segment = Segment("text", Continued(completion_tokens=5, wrote=(("large", 3), ("large", 2))))
    assert segment.wrote("large", 4) == b""
    assert segment.wrote("small", 0) == b""
    assert json.loads(b"{" + segment.wrote("small", 4)[1:] + b"}") == {"headgate": {"large": 5, "small": 4}}


def test_what_another_engine_is_handed_on_continues_what_this_one_was():
    segment = Segment("text", BEFORE)
    own = Usage(31, 4, 24)
    handed = segment.handed_on(segment.head(OWN), "large", own, 27, opened=True, text="text more", sent=9, look=" an")
    assert (handed.text, handed.tokens, handed.usage) == ("text more", 4, own)
    assert handed.continued == Continued(
        id="chatcmpl-first",
        created=5,
        opened=True,
        prompt_tokens=20,
        completion_tokens=7,
        cached_tokens=16,
        sent=9,
        look=" an",
        model="small",
        wrote=(("small", 3), ("large", 4)),
    )


# Told whose each part is


def told(**more):
    return Continued(**{"id": "x", "wrote": (("small", 3),), "completion_tokens": 3, "told": True} | more)


def marks(found):
    return [event.get("headgate", {}).get("model") for event in found]


def test_the_first_event_says_whose_an_answer_is():
    fresh = writer(Segment("", Continued(told=True)))
    found = events(fresh.role(0), fresh.text(0, "a", 1), fresh.finish(0, "b", 2, "stop", None))
    assert marks(found) == ["large", None, None]
    completion = writer(Segment("", Continued(told=True)), "completions")
    assert completion.role(0) == b""
    assert marks(events(completion.text(0, "a", 1), completion.text(0, "b", 2))) == ["large", None]


def test_the_first_event_of_an_engine_that_goes_on_says_whose_it_is():
    behind = writer(Segment("text", told(sent=4, opened=True)))
    found = events(behind.text(0, "a", 1), behind.text(0, "b", 2))
    assert (marks(found), texts(found)) == (["large", None], ["a", "b"])


def test_what_was_not_sent_of_the_engine_before_comes_in_an_event_of_its_own():
    behind = writer(Segment("text", told(sent=2, opened=True)))
    found = events(behind.text(0, "xta", 1), behind.text(0, "b", 2))
    assert (marks(found), texts(found)) == (["small", "large", None], ["xt", "a", "b"])
    held_back = writer(Segment("text", told(sent=2, opened=True)))
    found = events(held_back.text(0, "x", 1), held_back.text(0, "t", 2), held_back.finish(0, "a", 3, "stop", None))
    assert (marks(found), texts(found)) == (["small", None, "large"], ["x", "t", "a"])


def test_an_answer_that_nothing_was_sent_of_opens_as_the_engine_befores():
    behind = writer(Segment("text", told()))
    found = events(behind.role(0), behind.text(0, "texta", 1))
    assert (marks(found), texts(found)) == (["small", None, "large"], ["", "text", "a"])


def test_an_engine_that_wrote_nothing_is_not_named():
    behind = writer(Segment("text", told(sent=2, opened=True)))
    found = events(behind.finish(0, "xt", 0, "length", None))
    assert (marks(found), texts(found)) == (["small", None], ["xt", ""])
    assert found[-1]["choices"][0]["finish_reason"] == "length"


def test_nobody_is_named_where_the_client_did_not_ask():
    behind = writer(Segment("text", BEFORE))
    assert marks(events(behind.text(0, "a", 1), behind.finish(0, "b", 2, "stop", None))) == [None, None]
