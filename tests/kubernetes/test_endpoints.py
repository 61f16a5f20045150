import pytest

from shoal.kubernetes import Conditions, endpoint_conditions, usable_endpoints

READY = endpoint_conditions(pod_ready=True)
UNREADY = endpoint_conditions(pod_ready=False)
LEAVING = endpoint_conditions(pod_ready=True, deleting=True)
GONE = endpoint_conditions(pod_ready=False, deleting=True)


@pytest.mark.parametrize(
    ("conditions", "ready", "serving", "terminating"),
    [
        (READY, True, True, False),
        (UNREADY, False, False, False),
        (LEAVING, False, True, True),
        (GONE, False, False, True),
        (endpoint_conditions(pod_ready=False, publish_not_ready_addresses=True), True, False, False),
        (endpoint_conditions(pod_ready=True, deleting=True, publish_not_ready_addresses=True), True, True, True),
    ],
    ids=["ready", "unready", "leaving", "gone", "published though unready", "published though leaving"],
)
def test_the_conditions_of_an_endpoint(conditions: Conditions, ready: bool, serving: bool, terminating: bool) -> None:
    assert conditions == Conditions(ready=ready, serving=serving, terminating=terminating)


@pytest.mark.parametrize(
    ("endpoints", "usable"),
    [
        ({}, []),
        ({"a": READY, "b": UNREADY, "c": READY}, ["a", "c"]),
        ({"a": READY, "b": LEAVING}, ["a"]),
        ({"a": UNREADY, "b": LEAVING, "c": GONE}, ["b"]),
        ({"a": UNREADY, "b": UNREADY}, []),
        ({"a": GONE}, []),
    ],
    ids=["none", "ready ones", "leaving ones are spared", "leaving ones if need be", "unready never", "gone never"],
)
def test_who_gets_new_connections(endpoints: dict[str, Conditions], usable: list[str]) -> None:
    assert usable_endpoints(endpoints.items()) == usable
