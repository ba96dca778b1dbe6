"""Finding a Ray and its machines: every answer that a cluster may give, played by objects in this process."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from multistep_bench.errors import RunError
from multistep_bench.training.launchers import Demand, ray_cluster

HERE, ELSEWHERE = "10.0.0.1:6379", "10.0.0.2:6379"
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class RayError(Exception):
    """What Ray raises."""


def demand(address: str | None = None, *, workers: int | None = None, gpus: float = 1.0) -> Demand:
    return Demand([], None, "auto", workers, None, address, gpus)


class TaskUnschedulableError(RayError):
    """What Ray raises for a task of a machine that has left."""


class Ray:
    """A Ray that notes how it is used; connected: to which address this process is, before."""

    def __init__(self, connected: str | None = None, fails: Exception | None = None) -> None:
        self.connected, self.fails = connected, fails
        self.exceptions = SimpleNamespace(RayError=RayError, TaskUnschedulableError=TaskUnschedulableError)
        self.started: list[dict[str, Any]] = []
        self.shutdowns = 0

    def is_initialized(self) -> bool:
        return self.connected is not None

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address=self.connected)

    def init(self, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Ray sets a handler of its own
        if self.fails is not None:
            raise self.fails
        self.started.append(options)

    def shutdown(self) -> None:
        self.shutdowns += 1


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray runs wherever one is asked for, and no variable names one."""
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster, "_check_answers", lambda address: None)
    monkeypatch.setattr(ray_cluster, "_is_healthy", lambda *address: True)


def connect(ray: Ray, asked: Demand) -> str:
    """The address that is connected to."""
    with ray_cluster._connected(ray, asked):
        assert ray.shutdowns == 0
    return ray.started[-1]["address"] if ray.started else ""


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(
    ("variable", "address", "used"),
    [
        (None, None, "auto"),
        (None, "auto", "auto"),
        (None, HERE, HERE),
        (ELSEWHERE, None, ELSEWHERE),
        (ELSEWHERE, "auto", ELSEWHERE),
        (ELSEWHERE, HERE, HERE),
        ("", None, "auto"),
    ],
)
def test_the_option_is_above_the_variable(
    variable: str | None, address: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    ray = Ray()
    assert connect(ray, demand(address)) == used
    assert ray.shutdowns == 1
    assert "num_cpus" not in ray.started[0]  # a cluster knows what it has


@pytest.mark.usefixtures("healthy")
def test_a_ray_of_its_own_has_as_many_cores_as_workers_or_as_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_is_healthy", lambda *address: False)
    monkeypatch.setattr(ray_cluster, "available_cores", lambda: 7)
    for workers, cores in ((3, 3), (None, 7)):
        ray = Ray()
        assert connect(ray, demand(workers=workers)) == "local"
        assert ray.started[0]["num_cpus"] == cores


@pytest.mark.parametrize("address", [None, "auto", HERE])
def test_a_connection_of_the_caller_is_used_and_left_open(address: str | None) -> None:
    ray = Ray(connected=HERE)
    assert connect(ray, demand(address)) == ""
    assert ray.shutdowns == 0


def test_a_connection_of_the_caller_to_another_ray_is_said() -> None:
    with pytest.raises(RunError, match=rf"--address {ELSEWHERE}: this process uses the Ray at {HERE}; call ray.shut"):
        connect(Ray(connected=HERE), demand(ELSEWHERE))


@pytest.fixture
def own_handler() -> Iterator[Any]:
    """Of the caller, for SIGTERM."""

    def handle(*arguments: Any) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGTERM, handle)
    yield handle
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("healthy")
def test_handlers_of_signals_stay_and_what_ray_says_is_one_sentence(own_handler: Any) -> None:
    for fails in (None, RayError("no\n  such\tcluster"), ValueError("no such cluster")):
        ray = Ray(fails=fails)
        if fails is None:
            connect(ray, demand(HERE))
        else:
            with pytest.raises(RunError, match=rf"^--address {HERE}: Ray cannot be used there: no such cluster$"):
                connect(ray, demand(HERE))
        assert signal.getsignal(signal.SIGTERM) == own_handler
        assert ray.shutdowns == 1


@pytest.fixture
def port() -> Iterator[int]:
    """At which something answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("address", ["nonsense", "host:", ":6379", "host:port", "host:123456", "http://host:6379"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(RunError, match="write HOST:PORT of the cluster's head, or auto, on a machine of the cluster"):
        ray_cluster._check_answers(address)


def test_an_address_must_answer_and_be_a_ray(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(ray_cluster, "_is_healthy", lambda *address: not asked.append(address))
    ray_cluster._check_answers(f"127.0.0.1:{port}")
    assert asked == [("--address", f"127.0.0.1:{port}")]
    monkeypatch.setattr(ray_cluster, "_is_healthy", lambda *address: False)
    with pytest.raises(RunError, match=rf"127\.0\.0\.1:{port}: what answers there is no Ray of this version"):
        ray_cluster._check_answers(f"127.0.0.1:{port}")
    with pytest.raises(RunError, match=r"127\.0\.0\.1:99999: nobody answers there \(.+\); nothing was trained"):
        ray_cluster._check_answers("127.0.0.1:99999")


def test_brackets_of_an_address_of_ipv6_are_not_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[tuple[tuple[str, int], float]] = []

    def refuse(place: tuple[str, int], seconds: float) -> None:
        places.append((place, seconds))
        raise OSError("refused")

    monkeypatch.setattr(ray_cluster.socket, "create_connection", refuse)
    with pytest.raises(RunError, match=r"nobody answers there \(refused\)"):
        ray_cluster._check_answers("[fe80::1]:6379")
    assert places == [(("fe80::1", 6379), 2.0)]


@pytest.mark.parametrize(("code", "healthy"), [(0, True), (1, False), (2, False), (None, False)])
def test_a_ray_is_healthy_where_rays_own_check_says_so_in_time(
    code: int | None, healthy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(command: list[str], **options: Any) -> Any:
        assert command[-3:] == ["health-check", "--address", HERE]
        if code is None:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(ray_cluster.subprocess, "run", answer)
    assert ray_cluster._is_healthy("--address", HERE) is healthy


@pytest.mark.parametrize("gpus", [0.0, -1.0, float("nan")])
def test_no_share_of_a_gpu_is_refused(gpus: float) -> None:
    pytest.importorskip("ray")
    with (
        pytest.raises(RunError, match=r"--gpus .*: a share of a GPU above 0 is needed"),
        ray_cluster.ray_pool(demand(gpus=gpus)),
    ):
        pass


class Machines(Ray):
    """A cluster whose machines give the answers by name: a reason, None where all is well, or an exception."""

    def __init__(self, answers: dict[str, Any], silent: tuple[str, ...] = (), **resources: float) -> None:
        super().__init__()
        self.answers, self.silent, self.resources = answers, silent, resources
        self.asked: list[str] = []
        self.options: dict[str, Any] = {}

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "Alive": name != "dead",
                "Resources": self.resources,
                "NodeID": name.encode().hex().ljust(56, "0"),
                "NodeManagerHostname": name,
                "NodeManagerAddress": "10.0.0.9",
            }
            for name in self.answers
        ]

    def remote(self, function: Any) -> Any:
        def ask(*arguments: Any) -> str:
            name = bytes.fromhex(self.options["scheduling_strategy"].node_id).rstrip(b"\0").decode()
            self.asked.append(name)
            return name

        def options(**given: Any) -> Any:
            self.options = given
            assert not given["scheduling_strategy"].soft  # no other machine may answer for it
            return SimpleNamespace(remote=ask)

        return SimpleNamespace(options=options)

    def wait(self, asked: list[str], *, num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        assert num_returns == len(asked)
        return [name for name in asked if name not in self.silent], list(self.silent)

    def get(self, name: str) -> str | None:
        if isinstance(answer := self.answers[name], Exception):
            raise answer
        return answer


def check(machines: Machines, device: torch.device = CPU, gpus: float = 1.0) -> None:
    pytest.importorskip("ray")
    ray_cluster._check_machines(machines, demand(gpus=gpus), device)


def test_every_living_machine_is_asked() -> None:
    machines = Machines({"one": None, "dead": "is never asked", "two": None}, CPU=4)
    check(machines)
    assert machines.asked == ["one", "two"]


def test_a_machine_that_has_just_left_is_passed_over() -> None:
    """Ray lists it as alive for some seconds more."""
    left = TaskUnschedulableError("the node does not exist any more")
    check(Machines({"one": None, "left": left}, CPU=4))
    with pytest.raises(RunError, match=r"two .* cannot train this: torch 2\.0"):
        check(Machines({"left": left, "two": "torch 2.0"}, CPU=4))
    with pytest.raises(RunError, match="every machine of the Ray cluster left it; nothing was trained"):
        check(Machines({"left": left}, CPU=4))


@pytest.mark.parametrize(
    ("machines", "sentence"),
    [
        (
            Machines({"one": None, "two": "it has torch 1"}, CPU=4),
            r"^machine two \(10\.0\.0\.9\) of .*: it has torch 1$",
        ),
        (Machines({"one": None}, ("one",), CPU=4), r"^machine one .* did not answer within 180 s; nothing was trained"),
        (Machines({"one": None, "two": None}, ("two",), CPU=4), r"^machine two .* did not answer within 180 s"),
        (Machines({"one": RayError("no\nmodule")}, CPU=4), "multistep_bench does not start there: no module$"),
        (Machines({"one": None}, CPU=0), "has no machine with a CPU for a group of cells; give one num_cpus"),
        (Machines({}, CPU=4), "has no machine with a CPU"),
    ],
)
def test_what_a_machine_lacks_is_said_with_its_name(machines: Machines, sentence: str) -> None:
    with pytest.raises(RunError, match=sentence):
        check(machines)


@pytest.mark.parametrize(
    ("there", "gpus", "enough"), [(1, 1.0, True), (0.5, 0.5, True), (0.4, 0.5, False), (1, 4.0, True)]
)
def test_a_machine_is_asked_if_it_has_the_share_of_a_gpu_or_one(there: float, gpus: float, enough: bool) -> None:
    machines = Machines({"one": None}, CPU=4, GPU=there)
    if enough:
        check(machines, CUDA, gpus)
        assert machines.asked == ["one"]
    else:
        with pytest.raises(RunError, match="no machine with a GPU for a group of cells; give one num_gpus"):
            check(machines, CUDA, gpus)
