"""Who is there to hear of another model, and what each made of it."""

from contracts.events import ConsumerSeen, EngineStatus, ModelOutcome
from contracts.failures import FailureCode, FailureRecord
from detections.choosing import SILENT_S, Audience

CORRUPT = FailureRecord(code=FailureCode.MODEL_CORRUPT, detail="no model")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def consumer(pid: int, outcome: ModelOutcome | None = None, **changes: object) -> ConsumerSeen:
    known = {"host": "h", "engine_type": "onnx", "status": EngineStatus.ENABLED, "model": "street"}
    return ConsumerSeen(id=f"h:{pid}:abc", model_outcome=outcome, **(known | changes))


def audience(*consumers: ConsumerSeen, clock: Clock | None = None) -> Audience:
    made = Audience(clock or Clock())
    for each in consumers:
        made.see(each)
    return made


def test_one_that_serves_it_says_so() -> None:
    heard = audience(consumer(1, ModelOutcome(revision="r")))

    assert [str(answer) for answer in heard.answers("r")] == ["h:1 serves street"]
    assert heard.missing("r") == []


def test_one_that_keeps_its_model_says_why() -> None:
    heard = audience(consumer(1, ModelOutcome(revision="r", failure=CORRUPT)))

    (answer,) = heard.answers("r")
    assert not answer.is_serving
    assert str(answer) == "h:1 keeps street: model_corrupt: no model"


def test_one_that_serves_nothing_says_that() -> None:
    heard = audience(consumer(1, ModelOutcome(revision="r", failure=CORRUPT), model=None))

    assert str(heard.answers("r")[0]) == "h:1 serves nothing: model_corrupt: no model"


def test_an_answer_to_an_earlier_choice_is_none() -> None:
    heard = audience(consumer(1, ModelOutcome(revision="before")), consumer(2))

    assert heard.answers("r") == []
    assert [str(answer) for answer in heard.missing("r")] == [
        "h:1 keeps street: no answer in time",
        "h:2 keeps street: no answer in time",
    ]


def test_one_that_leaves_or_falls_silent_is_not_waited_for() -> None:
    clock = Clock()
    heard = audience(consumer(1), consumer(2), consumer(3), clock=clock)
    heard.see(consumer(1, is_stopping=True))
    clock.now_s += SILENT_S
    heard.see(consumer(3))

    assert [answer.consumer for answer in heard.missing("r")] == ["h:3"]
    assert [str(answer) for answer in heard.gone("r")] == ["h:2 keeps street: not heard of any more"]


def test_one_that_starts_after_the_announcement_owes_no_answer_but_may_give_one() -> None:
    heard = audience(consumer(1))
    heard.is_told()
    heard.see(consumer(2, model=None))
    assert [answer.consumer for answer in heard.missing("r")] == ["h:1"]
    heard.see(consumer(2, ModelOutcome(revision="r")))

    assert [answer.consumer for answer in heard.answers("r")] == ["h:2"]


def test_the_last_word_of_a_consumer_counts() -> None:
    heard = audience(consumer(1), consumer(1, ModelOutcome(revision="r")))

    assert len(heard.answers("r")) == 1
    assert heard.missing("r") == []
