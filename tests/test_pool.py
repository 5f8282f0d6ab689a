"""A pool of models: each loaded once, memory bounded, no result of another model or image."""

import threading
from pathlib import Path

import numpy as np
import pytest

from bedside import pool as pool_module
from bedside.bundle import find_bundle, read_bundle, write_bundle
from bedside.errors import BundleError, ClosedError, MemoryLimitError, UsageError
from bedside.pool import ModelPool, estimate_bytes
from bedside.spec import Clahe, Fit, Grey, KeepLargest, ScalePercentile, ZScore
from igtl_makers import wait_until
from models_for_tests import make_card, make_split
from threads_for_tests import call_together, make_clouds, make_deployment, make_network
from volume_makers import make_scan

DEPLOYMENTS = {
    "plain": make_deployment(2, (Grey(), Fit(), ScalePercentile())),
    "clahe": make_deployment(2, (Grey(), Clahe(tiles=4), Fit(), ScalePercentile()),
                             postprocess=(KeepLargest(),)),
    "scan": make_deployment(3, (ZScore(),)),
}  # fmt: skip


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bundles")
    for name, spec in DEPLOYMENTS.items():
        write_bundle(
            folder / f"{name}.bedside", spec=spec, card=make_card(), split=make_split(),
            graphs={"f32": make_network(spec.model.spatial_dims)},
        )  # fmt: skip
    return {name: str(folder / f"{name}.bedside") for name in DEPLOYMENTS}


@pytest.fixture(scope="module")
def sizes(paths: dict[str, str]) -> dict[str, int]:
    return {name: estimate_bytes(read_bundle(Path(path))) for name, path in paths.items()}


def segment(pool: ModelPool, path: str, array: np.ndarray) -> np.ndarray:
    with pool.model(path) as model:
        return model.segmenter.segment_sequence(make_scan(array)).labels.array


def make_jobs(paths: dict[str, str]) -> list[tuple[str, np.ndarray]]:
    arrays = {2: make_clouds(4, 2, 40, 50), 3: make_clouds(4, 10, 24, 30)}
    return [
        (paths[name], array)
        for index in range(4)
        for name, spec in DEPLOYMENTS.items()
        for array in (arrays[spec.model.spatial_dims][index],)
    ]


@pytest.mark.parametrize("room", ["all", "one"])
def test_eight_threads_get_the_labels_of_their_own_model_and_image(paths, sizes, room):
    jobs = make_jobs(paths)
    alone = []
    for job in jobs:
        with ModelPool(2**30, threads=1) as pool:
            alone.append(segment(pool, *job))
    ceiling = sum(sizes.values()) if room == "all" else max(sizes.values())
    most = []

    def call(job):
        labels = segment(pool, *job)
        most.append(sum(pool.loaded.values()))
        return labels

    with ModelPool(ceiling, threads=2) as pool:
        found = call_together(call, jobs, rounds=1)
    assert all(np.array_equal(labels, alone[index]) for index, labels in found)
    assert 0 < max(most) <= ceiling
    assert pool.loaded == {}


def test_a_model_is_loaded_once_whoever_asks(paths, monkeypatch):
    opened, reading = [], pool_module.read_bundle
    monkeypatch.setattr(
        pool_module, "read_bundle", lambda path: opened.append(path) or reading(path)
    )
    with ModelPool(2**30, threads=1) as pool:
        models = call_together(lambda path: enter(pool, path), [paths["plain"]] * 8, rounds=2)
        # By another spelling of its path, too.
        folder = Path(paths["plain"]).parent
        models.append((0, enter(pool, str(folder / ".." / folder.name / "plain.bedside"))))
    assert len(opened) == 1
    assert len({id(model) for _, model in models}) == 1


def enter(pool, path):
    with pool.model(path) as model:
        return model


def test_the_model_that_was_used_longest_ago_makes_room(paths, sizes):
    with ModelPool(sizes["plain"] + sizes["clahe"] + 1, threads=1) as pool:
        first = enter(pool, paths["plain"])
        enter(pool, paths["clahe"])
        enter(pool, paths["plain"])
        with pool.model(paths["plain"]):
            assert enter(pool, paths["clahe"]) is enter(pool, paths["clahe"])
            assert list(pool.loaded) == ["plain", "clahe"]
        enter(pool, paths["scan"])
        assert "scan" in pool.loaded
        assert sum(pool.loaded.values()) <= sizes["plain"] + sizes["clahe"] + 1
        again = enter(pool, paths["plain"])
    assert again is not first
    with pytest.raises(ClosedError):
        first.segmenter.session.predict(np.zeros((1, 1, 64, 96), np.float32))


def test_a_model_larger_than_the_pool_is_refused(paths, sizes):
    with ModelPool(sizes["plain"] - 1, threads=1) as pool:
        with pytest.raises(MemoryLimitError, match=r"plain takes about \d+ MiB, and the pool may"):
            enter(pool, paths["plain"])
        assert pool.loaded == {}


def test_a_thread_that_uses_a_model_does_not_wait_for_itself(paths, sizes):
    with ModelPool(max(sizes.values()), threads=1) as pool, pool.model(paths["plain"]) as model:
        with pytest.raises(MemoryLimitError, match=r"models in use \(plain\) leave no room for cl"):
            enter(pool, paths["clahe"])
        model.segmenter.session.check_open()
        # It may use the one that it has.
        assert enter(pool, paths["plain"]) is model


def test_two_threads_do_not_wait_for_each_other(paths, sizes):
    told = []

    def wait_for_room():
        told.append(enter(pool, paths["clahe"]))

    with ModelPool(max(sizes.values()), threads=1) as pool:
        other = threading.Thread(target=wait_for_room)
        with pool.model(paths["plain"]):
            other.start()
            with pytest.raises(MemoryLimitError, match="leave no room"):
                enter(pool, paths["clahe"])
        other.join()
    assert len(told) == 1


def test_a_thread_that_cannot_wait_leaves_the_others_to_wait(paths, sizes, monkeypatch):
    # Both ask for clahe; the one that loads it uses plain, so it has to give up.
    told = []
    read = pool_module.read_bundle

    def read_when_both_ask(path):
        if path == Path(paths["clahe"]) and threading.current_thread() is threading.main_thread():
            other.start()
            wait_until(lambda: len(pool._entries[path].users) == 2)
        return read(path)

    def wait_for_room():
        told.append(enter(pool, paths["clahe"]))

    other = threading.Thread(target=wait_for_room)
    with ModelPool(max(sizes.values()), threads=1) as pool:
        with pool.model(paths["plain"]):
            monkeypatch.setattr(pool_module, "read_bundle", read_when_both_ask)
            with pytest.raises(MemoryLimitError, match="leave no room"):
                enter(pool, paths["clahe"])
        other.join()
    assert len(told) == 1


def test_waiting_for_room_ends(paths, sizes):
    told = []

    def ask():
        with (
            pytest.raises(MemoryLimitError, match="leave no room"),
            pool.model(paths["clahe"], wait_s=0.05),
        ):
            pass
        told.append(1)

    with ModelPool(max(sizes.values()), threads=1) as pool, pool.model(paths["plain"]):
        other = threading.Thread(target=ask)
        other.start()
        other.join()
    assert told


def test_a_bundle_that_cannot_be_read_is_refused_for_everybody_and_tried_again(tmp_path):
    path = tmp_path / "bad.bedside"
    path.write_bytes(b"no bundle")
    with ModelPool(2**30) as pool:

        def refuse(path):
            with pytest.raises(BundleError):
                enter(pool, path)

        call_together(refuse, [str(path)] * 8, rounds=1)
        assert pool.loaded == {}
        with pytest.raises(BundleError, match="no bundle"):
            enter(pool, "nothing")


def test_a_closed_pool_refuses_and_closes_what_is_in_use_last(paths):
    pool = ModelPool(2**30, threads=1)
    with pool.model(paths["plain"]) as model:
        pool.close()
        model.segmenter.session.check_open()
        with pytest.raises(ClosedError, match="the pool of models was closed"):
            enter(pool, paths["plain"])
    with pytest.raises(ClosedError):
        model.segmenter.session.check_open()
    assert pool.loaded == {}


def test_all_networks_share_one_number_of_calls(paths):
    running, most = [], []

    class Slow:
        backend, precision, threads = "slow", "f32", 1

        def predict(self, tensor, out=None):
            running.append(1)
            most.append(len(running))
            threading.Event().wait(0.005)
            running.pop()
            return tensor

        def close(self):
            pass

    with ModelPool(2**30, threads=4, at_once=2) as pool:
        for name in ("plain", "clahe"):
            model = enter(pool, paths[name])
            assert model.segmenter.session.threads == 2
            model.segmenter.session.session = Slow()
        sessions = [enter(pool, paths[name]).segmenter.session for name in ("plain", "clahe")]
        call_together(lambda s: s.predict(np.zeros(1)), sessions, rounds=3)
    assert max(most) == 2


def test_numbers_below_one_are_refused():
    with pytest.raises(UsageError, match="at_once 0; expected numbers above 0"):
        ModelPool(1, at_once=0)
    for ceiling in ("1GB", float("nan")):
        with pytest.raises(UsageError, match="expected numbers above 0"):
            ModelPool(ceiling)


def test_a_stream_of_a_model_opens_no_session_that_is_not_counted():
    frame = make_clouds(1, 64, 80)[0]
    room = estimate_bytes(read_bundle(find_bundle("camus-4ch")))
    with (
        ModelPool(room, threads=2) as pool,
        pool.model("camus-4ch") as model,
        model.stream() as live,
    ):
        session = model.segmenter.session
        assert live.steps == (f"{session.backend} {session.precision}",)
        assert live.push(frame, 0.0).labels.shape == frame.shape
