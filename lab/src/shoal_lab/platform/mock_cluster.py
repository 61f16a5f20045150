"""librdkafka's in-memory Kafka: one broker on a port of 127.0.0.1, run by threads of this process.

`confluent-kafka` brings librdkafka along, and librdkafka the broker it tests itself with. Python cannot get at that
broker except by its C interface (librdkafka, `rdkafka_mock.h`), which calls itself experimental: what is missing from
the library at hand is said plainly.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import threading
from collections.abc import Mapping

from shoal_lab.errors import PlatformError

_PRODUCER = 0
_BROKERS = 1
_REPLICAS = 1
_FIRST_BROKER = 1
_JOIN_TOGETHER = 500
"""Milliseconds that the first member of a group waits for others to come: who comes later costs all a rebalance."""

_Handle = ctypes.c_void_p
_Text = ctypes.c_char_p
_SIGNATURES: Mapping[str, tuple[type | None, tuple[type, ...]]] = {
    "rd_kafka_conf_new": (_Handle, ()),
    "rd_kafka_conf_set": (ctypes.c_int, (_Handle, _Text, _Text, _Text, ctypes.c_size_t)),
    "rd_kafka_new": (_Handle, (ctypes.c_int, _Handle, _Text, ctypes.c_size_t)),
    "rd_kafka_destroy": (None, (_Handle,)),
    "rd_kafka_err2str": (_Text, (ctypes.c_int,)),
    "rd_kafka_mock_cluster_new": (_Handle, (_Handle, ctypes.c_int)),
    "rd_kafka_mock_cluster_destroy": (None, (_Handle,)),
    "rd_kafka_mock_cluster_bootstraps": (_Text, (_Handle,)),
    "rd_kafka_mock_topic_create": (ctypes.c_int, (_Handle, _Text, ctypes.c_int, ctypes.c_int)),
    "rd_kafka_mock_broker_set_host_port": (None, (_Handle, ctypes.c_int32, _Text, ctypes.c_int)),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, (_Handle, ctypes.c_int32)),
}


class MockCluster:
    """A Kafka cluster of one broker, reachable by every process of this machine, with at most 5 MiB a partition.

    It works from its making until `close`. A topic nobody has created springs up with four partitions when it is asked
    for. A new group waits half a second for more members, not three. Raises PlatformError if the library has no such
    broker or cannot start it.

    May be used from several threads, and `create_topic` and `close` had better be called in one: as a rule they take
    less than a millisecond, but one time in twenty the library forgets to wake its own thread, and they take a second.
    """

    def __init__(self) -> None:
        self._library = _library()
        self._lock = threading.Lock()
        reason = ctypes.create_string_buffer(512)
        settings = self._library.rd_kafka_conf_new()
        # Its log goes to our standard error: emergencies only.
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", reason, len(reason))
        self._client: int | None = self._library.rd_kafka_new(_PRODUCER, settings, reason, len(reason))
        if not self._client:
            raise PlatformError(f"librdkafka would not start: {reason.value.decode()}")
        self._cluster: int | None = self._library.rd_kafka_mock_cluster_new(self._client, _BROKERS)
        if not self._cluster:
            self.close()
            raise PlatformError("librdkafka would not start its in-memory Kafka: is no port of 127.0.0.1 to be had?")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, _JOIN_TOGETHER)
        host, _, port = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode().rpartition(":")
        self.address: tuple[str, int] = (host, int(port))
        """Host and port of the broker."""

    def create_topic(self, name: str, *, partitions: int) -> None:
        """Create a topic. Raises PlatformError if there is one of that name, or the cluster is closed."""
        with self._lock:
            error = self._library.rd_kafka_mock_topic_create(self._open(), name.encode(), partitions, _REPLICAS)
        if error:
            reason = self._library.rd_kafka_err2str(error).decode()
            raise PlatformError(f"the in-memory Kafka does not create topic {name} ({partitions} partitions): {reason}")

    def advertise(self, host: str, port: int) -> None:
        """Send clients to another address: before they use a broker they ask it where it is.

        Raises PlatformError if the cluster is closed.
        """
        with self._lock:
            self._library.rd_kafka_mock_broker_set_host_port(self._open(), _FIRST_BROKER, host.encode(), port)

    def close(self) -> None:
        """Break all connections, forget all events and give the port back. May be called again."""
        with self._lock:
            cluster, self._cluster = self._cluster, None
            if cluster:
                self._library.rd_kafka_mock_cluster_destroy(cluster)
            client, self._client = self._client, None
            if client:
                self._library.rd_kafka_destroy(client)

    def _open(self) -> int:
        # librdkafka would end this process if it were handed a cluster that is gone.
        if self._cluster is None:
            raise PlatformError("the in-memory Kafka is closed; start another")
        return self._cluster


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        extension = importlib.import_module("confluent_kafka.cimpl").__file__
    except ImportError as error:
        raise PlatformError(
            f"there is no embedded Kafka ({error}): `pip install confluent-kafka`, or name a running Kafka with --kafka"
        ) from error
    # The extension stands in for the library it is linked with, whose file has another name on every system.
    library = ctypes.CDLL(extension)
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise PlatformError(
                f"the librdkafka that confluent-kafka brings has no {name}: install a release that has it (2.16 has), "
                "or name a running Kafka with --kafka"
            ) from error
        function.restype, function.argtypes = result, arguments
    return library
