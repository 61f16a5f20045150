import pytest

from shoal_lab.faults import Fault


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"kind": "gone"}, "kind must be one of down, hang, slow, errors, got 'gone'", id="unknown kind"),
        pytest.param({"kind": "slow"}, "latency must be above 0", id="slow by nothing"),
        pytest.param({"kind": "slow", "latency": float("inf")}, "finite", id="slow for ever"),
        pytest.param({"kind": "errors", "share": 0.0}, "share must be above 0", id="no errors"),
        pytest.param({"kind": "errors", "share": 1.1}, "at most 1", id="more errors than requests"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Fault(**settings)  # type: ignore[arg-type]  # what a wrong caller writes


def test_a_setting_of_another_kind_does_not_matter() -> None:
    assert Fault(kind="down", latency=0.0, share=1.0).kind == "down"
