"""The process a replica runs in."""

from __future__ import annotations

import socket

from shoal_lab.company.manifest import workloads
from shoal_lab.company.pod import SERVICES, _bound
from shoal_lab.company.settings import PodSettings
from shoal_lab.ladder import LADDER


def test_answers_are_sent_at_once() -> None:
    """asyncio sets TCP_NODELAY only on sockets that name their protocol; without it each hop took 40 ms longer."""
    with _bound(0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.proto == socket.IPPROTO_TCP


def test_every_workload_has_its_service() -> None:
    for step in LADDER:
        assert {workload.service for workload in workloads(step.remedies)} <= set(SERVICES)


def test_settings_survive_the_environment() -> None:
    settings = PodSettings(
        service="wallet",
        pod="wallet/0",
        app_port=1,
        probe_port=2,
        remedies=LADDER[-1].remedies,
        targets={"auth": "http://127.0.0.1:3"},
        time_scale=10.0,
    )

    assert PodSettings.from_environment(settings.to_environment()) == settings
