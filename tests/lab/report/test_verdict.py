"""The sentences: what each way of doing readiness did to customers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shoal_lab.record import JourneyCount, Sample, StepRecord
from shoal_lab.report import Report
from shoal_lab.report.verdict import Verdict, verdicts

Make = Callable[..., Report]
MakePlain = Callable[[str, Callable[[str, float], Sample]], StepRecord]


def verdict_on(step: str, report: Report) -> Verdict:
    return next(verdict for verdict in verdicts(report) if verdict.step == step)


def test_a_cascade_in_a_sentence(made_report: Make) -> None:
    verdict = verdict_on("deep", made_report("deep", "shallow", "guarded"))

    assert verdict.grade == "failed"
    assert verdict.headline == "everything dark 2.5 s after auth's database failed, for 19.6 s; fees too"
    assert verdict.details == (
        "No endpoint left of wallet, auth, balance and activity for up to 19.6 s.",
        "The pods saw 99 of 760 requests: for the rest no counter moved.",
        "All well again 2.2 s after the repair.",
    )


def test_a_shallow_step_in_a_sentence(made_report: Make) -> None:
    verdict = verdict_on("shallow", made_report("deep", "shallow"))

    assert verdict.grade == "hurt"
    assert verdict.headline == "view-balance and lock-account dark for up to 20.5 s; fees went on"
    assert verdict.details == (
        "Every service kept all its endpoints.",
        "The pods counted 560 failures, all of them put down to auth.",
        "All well again 500 ms after the repair.",
    )


def test_stale_answers_are_service_but_called_degraded(made_report: Make) -> None:
    verdict = verdict_on("cached", made_report("cached"))

    assert verdict.headline == (
        "lock-account dark for 20.0 s; view-balance 96 % served, all of that degraded; fees went on"
    )


def test_nothing_to_tell_is_told_as_such(made_report: Make) -> None:
    verdict = verdict_on("split", made_report("split"))

    assert verdict == Verdict(
        step="split",
        grade="fine",
        headline="every journey went on",
        details=("Every service kept all its endpoints.",),
    )


def test_a_journey_is_said_to_have_gone_dark_needlessly_only_if_it_went_on_elsewhere(made_report: Make) -> None:
    """Alone, the deep step cannot know that fees need nobody."""
    assert verdict_on("deep", made_report("deep")).headline.endswith("for 19.6 s")
    assert verdict_on("deep", made_report("deep", "split")).headline.endswith("for 19.6 s")
    assert verdict_on("deep", made_report("deep", "split", "shallow")).headline.endswith("; fees too")


def test_slow_is_not_unharmed(made_report: Make, make_plain: MakePlain) -> None:
    """Everybody is served in the end, but a balance takes 2.5 s."""

    def answer(journey: str, at: float) -> Sample:
        slow = journey == "view-balance" and 10 <= at < 30
        return Sample(journey, at, 2.5 if slow else 0.01, 200, "{}")

    verdict = verdict_on("shallow", made_report(make_plain("shallow", answer)))

    assert verdict.grade == "hurt"
    assert verdict.headline == "view-balance went on, p99 2.5 s; lock-account and fees went on"


def test_always_slow_is_not_the_faults_doing(made_report: Make, make_plain: MakePlain) -> None:
    verdict = verdict_on(
        "shallow", made_report(make_plain("shallow", lambda journey, at: Sample(journey, at, 2.5, 200, "{}")))
    )

    assert verdict.grade == "fine"


def test_one_replica_in_three_is_a_share_and_no_darkness(made_report: Make, make_plain: MakePlain) -> None:
    def answer(journey: str, at: float) -> Sample:
        bad = journey == "view-balance" and 10 <= at < 30 and round(at * 20) % 3 == 0
        return Sample(journey, at, 0.01, 503 if bad else 200, "sorry" if bad else "{}")

    verdict = verdict_on("shallow", made_report(make_plain("shallow", answer)))

    assert verdict.grade == "hurt"
    assert verdict.headline == "view-balance 66.7 % served; lock-account and fees went on"


def test_several_causes_are_given_their_share(made_report: Make, made_step: Callable[[str], StepRecord]) -> None:
    record = made_step("shallow")
    counts = [*record.journeys, JourneyCount("during", "fees", "shed", "overload", 140)]

    verdict = verdict_on("shallow", made_report(replace(record, journeys=counts)))

    assert "The pods counted 700 failures, 80 % of them put down to auth." in verdict.details


def test_never_well_again_is_said(made_report: Make, make_plain: MakePlain) -> None:
    def answer(journey: str, at: float) -> Sample:
        return Sample(journey, at, 0.01, 200 if at < 10 else 503)

    verdict = verdict_on("deep", made_report(make_plain("deep", answer)))

    assert verdict.headline == "everything dark as soon as auth's database failed, for 35.0 s"
    assert "Not well again before the run ended." in verdict.details


def test_nobody_came(made_report: Make, made_step: Callable[[str], StepRecord]) -> None:
    verdict = verdict_on("split", made_report(replace(made_step("split"), samples=[], journeys=[])))

    assert verdict.headline == "no customer asked for anything during the fault"
