"""Who is in the family, what each member comes with, and that test is read once."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from spaces import conv, module, network
from tiny_search import FAMILY_EPOCHS, FAMILY_SIZE, certificates, run, search_words, snapshot

from collabdesign.deliver.certificate import Certificate, judge, read_certificate
from collabdesign.deliver.choice import choose_family, finalists, rank_finalists
from collabdesign.deliver.member import load_variant
from collabdesign.deliver.report.gather import gather
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import Cost, cost_of
from collabdesign.design.files.reading import load_requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import load_test
from collabdesign.explore.front import Scale
from collabdesign.explore.record import Candidate, trained_within
from collabdesign.explore.study import read_record

NAMES = ["attonet-a", "attonet-b", "attonet-c"]

# -- who is chosen ----------------------------------------------------------------------------

SCALE = Scale(("accuracy", "macs"), 0.0, {"macs": 1e2}, {"macs": 1e6})
ANY_NETWORK = network(module([conv(3, 8)], channels=8))


def candidates(*points: tuple[float, int], params: int = 1_000) -> list[Candidate]:
    """Trained ones with these accuracies and MACs, numbered from 0."""
    return [
        Candidate(
            number,
            number,
            {},
            ANY_NETWORK,
            Cost(macs, params, 4 * params, 1_024),
            "machine",
            outcome="trained",
            accuracy=accuracy,
        )
        for number, (accuracy, macs) in enumerate(points)
    ]


def chosen(some: list[Candidate], size: int, scale: Scale = SCALE) -> list[int]:
    return [each.number for each in choose_family(some, scale, size)]


# On a scale of MACs from 10^6 (loss 1) to 10^2 (loss 0), and of accuracy from 0 to 1.
FRONT = ((0.9, 100_000), (0.8, 10_000), (0.6, 1_000), (0.55, 900), (0.2, 100))


def test_the_most_accurate_and_of_each_part_what_adds_most() -> None:
    some = candidates(*FRONT)
    assert chosen(some, 1) == [0]
    # Below number 0, at 3/4, number 2 adds 0.6 x (3/4 - 1/4) = 0.3 of the box, number 1 0.2,
    # number 3 a little less than 0.3, number 4 0.15.
    assert chosen(some, 2) == [0, 2]
    # The parts end at 10^3.5 and 10^2; in the lower number 2 adds 0.6 x (1/2 - 1/4) = 0.15,
    # number 4 0.2 x 1/2.
    assert chosen(some, 3) == [0, 1, 2]
    # Now number 4 adds 0.2 x 1/4 = 0.05, number 3 about 0.55 x 0.01.
    assert chosen(some, 4) == [0, 1, 2, 4]
    assert chosen(some, 5) == [0, 1, 2, 3, 4]


def test_each_part_of_the_range_has_one() -> None:
    """Steps among the small ones add more volume than the large one between the ends does."""
    some = candidates((0.9, 100_000), (0.89, 20_000), (0.7, 800), (0.5, 300), (0.35, 100))
    assert chosen(some, 3) == [0, 1, 2]  # the parts: 10^5 to 10^3.5 to 10^2


def test_the_smallest_waits_for_one_that_costs_hardly_more_and_is_far_better() -> None:
    some = candidates((0.97, 300_000), (0.93, 40_000), (0.9, 9_000), (0.84, 110), (0.5, 100))
    assert chosen(some, 3) == [0, 2, 3]
    assert chosen(some, 4) == [0, 1, 2, 3]
    assert chosen(some, 5) == [0, 1, 2, 3, 4]


def test_those_beaten_on_every_objective_wait() -> None:
    some = candidates((0.7, 100_000), *FRONT, (0.1, 200))
    assert chosen(some, 5) == [1, 2, 3, 4, 5]
    # With room left, the front without the first front follows: both of its ends.
    assert chosen(some, 7) == [1, 2, 0, 3, 4, 5, 6]
    assert chosen(some, 6) == [1, 2, 0, 3, 4, 5]


def test_fewer_candidates_than_members() -> None:
    assert chosen(candidates(*FRONT[:2]), 4) == [0, 1]
    assert chosen([], 4) == []


def test_of_equal_ones_the_first() -> None:
    assert chosen(candidates((0.8, 500), (0.8, 500), (0.8, 500)), 1) == [0]
    assert chosen(candidates((0.8, 500), (0.8, 500), (0.8, 500)), 3) == [0, 1, 2]


def test_size_is_the_product_of_the_costs() -> None:
    """However the scales are spread: the last has few MACs, and more parameters than all."""
    scale = Scale(
        ("accuracy", "macs", "params"),
        0.0,
        {"macs": 1e2, "params": 1e3},
        {"macs": 1e4, "params": 1e9},
    )
    some = candidates((0.9, 9_000), (0.6, 3_000), (0.5, 1_000), (0.4, 316))
    sizes = (20_000, 10_000, 2_000, 1_000_000)
    some = [
        replace(each, cost=Cost(**{**each.cost, "params": size}))
        for each, size in zip(some, sizes, strict=True)
    ]
    # It would add most to the first and the third.
    assert chosen(some, 3, scale) == [0, 1, 2]
    assert chosen(some, 4, scale) == [0, 1, 2, 3]


def test_finalists_are_those_about_as_good_as_the_best() -> None:
    # Of 0.9 and 0.9 on 200 images the difference has a deviation of sqrt(2 x 0.9 x 0.1 / 200),
    # 0.03: those above 0.8412 are about as good.
    some = candidates((0.85, 500), (0.9, 400), (0.84, 10), (0.845, 100), (0.9, 900))
    assert [each.number for each in finalists(some, 200, 10)] == [1, 4, 0, 3]
    assert [each.number for each in finalists(some, 200, 2)] == [1, 4]
    assert [each.number for each in finalists(some, 10_000_000, 10)] == [1, 4]
    assert finalists([], 200, 3) == []
    # What the human drew is to be beaten, however far its proxy is behind.
    some[2] = replace(some[2], proposed_by="prototype")
    assert [each.number for each in finalists(some, 200, 2)] == [1, 4, 2]
    some[1] = replace(some[1], proposed_by="prototype")
    some[2] = replace(some[2], proposed_by="machine")
    assert [each.number for each in finalists(some, 200, 2)] == [1, 4]


def test_full_training_settles_the_order_of_the_finalists() -> None:
    some = candidates((0.85, 500), (0.9, 400), (0.6, 10), (0.88, 300))
    decided = rank_finalists(some, {1: 0.93, 0: 0.97, 3: 0.95})
    assert [each.accuracy for each in decided] == pytest.approx([0.9, 0.86, 0.6, 0.88])
    assert rank_finalists(some, {}) == some
    assert chosen(some, 1) == [1]
    assert chosen(decided, 1) == [0]
    # Number 1 costs more than number 3 and is behind it now: it waits, like all that are beaten.
    assert chosen(decided, 3) == [0, 3, 2]
    assert rank_finalists(some, {0: 0.95, 2: 0.01})[2].accuracy == 0.0


# -- what a search hands over -----------------------------------------------------------------


def test_the_family_of_a_search(finished: Path) -> None:
    run_dir = finished / "run"
    record = read_record(run_dir)
    requirements = load_requirements(finished / "tiny.yaml")
    found = [read_certificate(run_dir / "family" / name) for name in NAMES]
    assert sorted(certificates(run_dir)) == NAMES
    assert len(NAMES) == FAMILY_SIZE
    assert len({each.architecture for each in found}) == FAMILY_SIZE
    # The most accurate first, by the held-out part and not by test.
    accuracies = [each.select_accuracies[0] for each in found]
    assert accuracies == sorted(accuracies, reverse=True)
    by_number = {each.number: each for each in record.trained}
    for certificate in found:
        candidate = by_number[certificate.candidate]
        assert candidate.architecture.id == certificate.architecture
        assert candidate.cost == certificate.cost == cost_of(candidate.architecture)
        assert certificate.epochs == FAMILY_EPOCHS == len(certificate.curve)
        assert certificate.curve[-1].accuracy == certificate.select_accuracies[0]
        assert certificate.seeds == (requirements.search.seed,)
        assert certificate.delivered_seed == requirements.search.seed


def test_every_requirement_is_judged(finished: Path) -> None:
    for name in NAMES:
        certificate = read_certificate(finished / "run" / "family" / name)
        judged = {row.name: row for row in certificate.requirements}
        assert list(judged) == ["macs", "params", "accuracy"]
        for key, limit in (("macs", 30_000), ("params", 4_000)):
            row = judged[key]
            assert (row.required, row.at_least) == (limit, False)
            assert row.value == getattr(certificate.cost, key)
            assert row.met is (row.value <= limit) is True
            assert row.measured.startswith("counted from the architecture")
        goal = judged["accuracy"]
        assert (goal.required, goal.at_least) == (0.2, True)
        assert goal.value == certificate.test_accuracy
        assert goal.met is (goal.value >= 0.2)
        assert goal.measured.startswith("measured on the test images")
        assert certificate.meets_all is all(row.met for row in certificate.requirements)


def test_judged_at_the_border(finished: Path) -> None:
    requirements = load_requirements(
        finished / "tiny.yaml", ["limits={macs: 100, weight_bytes: 50B}", "goals.accuracy=0.75"]
    )

    def met(cost: Cost, accuracy: float) -> list[bool]:
        return [row.met for row in judge(requirements, cost, accuracy)]

    assert met(Cost(100, 9, 50, 9), 0.75) == [True, True, True]
    assert met(Cost(101, 9, 51, 9), 0.7499) == [False, False, False]


def test_weights_are_the_ones_certified(finished: Path) -> None:
    requirements = load_requirements(finished / "tiny.yaml")
    test = load_test(requirements.data)
    for name in NAMES:
        folder = finished / "run" / "family" / name
        certificate = read_certificate(folder)
        weights = (folder / "weights.pt").read_bytes()
        assert hashlib.sha256(weights).hexdigest() == certificate.weights_sha256
        assert (certificate.test_readings, certificate.test_images) == (1, len(test.labels))
        assert certificate.data["test_sha256"] == test.fingerprint
        # The accuracy on test, counted here from the network as anyone would load it.
        variant = load_variant(folder)
        stored = (folder / "model.py").read_text()
        scope: dict[str, object] = {"__name__": "model", "__file__": str(folder / "model.py")}
        exec(compile(stored, "model.py", "exec"), scope)
        model = scope["load"](folder / "weights.pt")  # type: ignore[operator]
        right = 0
        for image, label in zip(test.images, test.labels.tolist(), strict=True):
            pixels = image.float().div(255)
            pixels = (pixels - scope["MEAN"][0]) / scope["STD"][0]  # type: ignore[index]
            with torch.inference_mode():
                logits = model(pixels[None])
                assert torch.equal(logits, variant(pixels[None]))
            right += int(logits.argmax()) == label
        assert right / len(test.labels) == pytest.approx(certificate.test_accuracy, abs=2 / 359)


def test_a_member_needs_torch_alone(finished: Path, tmp_path: Path) -> None:
    """``python model.py`` in a folder of its own, without this library."""
    folder = tmp_path / "taken"
    shutil.copytree(finished / "run" / "family" / "attonet-a", folder)
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "model.py"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    architecture = Architecture.from_dict(json.loads((folder / "architecture.json").read_text()))
    params = cost_of(architecture).params
    assert f"{params:,}" in done.stdout or str(params) in done.stdout


def test_a_certificate_there_and_back(finished: Path) -> None:
    folder = finished / "run" / "family" / "attonet-a"
    certificate = read_certificate(folder)
    assert isinstance(certificate, Certificate)
    written = json.loads((folder / "certificate.json").read_text())
    assert json.loads(json.dumps(certificate.to_dict())) == written


@pytest.mark.parametrize("file", ["weights.pt", "architecture.json"])
@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x02}q\0.", None])
def test_a_variant_that_is_none(finished_copy: Path, file: str, content: bytes | None) -> None:
    folder = finished_copy / "run" / "family" / "attonet-a"
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pt must fit|holds an architecture\.json"):
        load_variant(folder)


def trained_fully(run_dir: Path) -> set[str]:
    """Ids of the architectures of which there is a checkpoint."""
    return {path.stem.split("-")[0] for path in (run_dir / "family" / "training").glob("*.pt")}


def finalists_of(run_dir: Path) -> set[str]:
    path = run_dir / "family" / "finalists.json"
    numbers = [row["candidate"] for row in json.loads(path.read_text())] if path.exists() else []
    by_number = {each.number: each for each in read_record(run_dir).trained}
    return {by_number[number].architecture.id for number in numbers}


# -- again, smaller, larger, on -----------------------------------------------------------------


def test_again_nothing_is_trained_or_read(finished: Path, finished_copy: Path) -> None:
    run_dir = finished_copy / "run"
    before = snapshot(run_dir / "family")
    code, said = run(search_words(finished_copy), finished_copy)
    assert code == 0, said
    assert "first place, after a full training each, held-out part: " in said
    assert "the prototype's default (candidate 0)" in said
    after = snapshot(run_dir / "family")
    assert "epoch" not in said
    for name, (changed, content) in before.items():
        assert after[name][1] == content, name
        if name.startswith("training/") or name == "readings.json":
            assert after[name][0] == changed, name
    assert after.keys() == before.keys()


def test_a_smaller_family_leaves_no_stale_members(finished: Path, finished_copy: Path) -> None:
    run_dir = finished_copy / "run"
    code, said = run(search_words(finished_copy, "--set", "family.size=2"), finished_copy)
    assert code == 0, said
    family = run_dir / "family"
    assert sorted(path.name for path in family.glob("attonet-*")) == NAMES[:2]
    kept = {each["architecture"] for each in certificates(run_dir).values()}
    assert trained_fully(run_dir) == kept | finalists_of(run_dir)
    assert all(each["test_readings"] == 1 for each in certificates(run_dir).values())
    assert kept < {each["architecture"] for each in certificates(finished / "run").values()}


def test_what_a_person_put_beside_the_networks_stays(finished_copy: Path) -> None:
    """An exported file, also where the member is one of another network now, or of none."""
    run_dir = finished_copy / "run"
    family = run_dir / "family"
    theirs = {
        "attonet-a/exported.onnx": b"mine",
        "attonet-a/notes/why.txt": b"mine too",
        "attonet-c/exported.onnx": b"of one that goes",
        "attonet-old/weights of mine.bin": b"a folder of mine",
    }
    for name, content in theirs.items():
        (family / name).parent.mkdir(parents=True, exist_ok=True)
        (family / name).write_bytes(content)
    (family / "attonet-a" / "model.py").write_text("edited by hand")
    (family / "attonet-a" / "certificate.json").unlink()
    words = search_words(finished_copy, "--set", "family.size=2")
    code, said = run(words, finished_copy)
    assert code == 0, said
    assert {name: (family / name).read_bytes() for name in theirs} == theirs
    # What is ours is new, or gone with its member.
    assert (family / "attonet-a" / "model.py").read_text() != "edited by hand"
    assert sorted(certificates(run_dir)) == NAMES[:2]
    assert [path.name for path in (family / "attonet-c").iterdir()] == ["exported.onnx"]
    code, said = run(["status", "run", "--json"], finished_copy)
    assert json.loads(said)["family"] == NAMES[:2]
    assert not list(family.glob(".attonet-*"))


def test_more_trials_replace_members_cleanly(finished: Path, finished_copy: Path) -> None:
    run_dir = finished_copy / "run"
    before = {each["architecture"]: each for each in certificates(run_dir).values()}
    words = search_words(finished_copy, "--set", "search.trials=20", "--set", "family.size=4")
    code, said = run(words, finished_copy)
    assert code == 0, said
    after = {each["architecture"]: each for each in certificates(run_dir).values()}
    assert len(after) == 4
    assert set(after) != set(before)
    # A member that stays keeps its weights and its one reading.
    for name in set(after) & set(before):
        for key in ("weights_sha256", "test_accuracy", "test_readings", "curve"):
            assert after[name][key] == before[name][key]
    ledger = json.loads((run_dir / "family" / "readings.json").read_text())
    assert {entry["readings"] for entry in ledger.values()} == {1}
    assert len(ledger) == len(set(after) | set(before))
    for certificate in certificates(run_dir).values():
        folder = run_dir / "family" / certificate["name"]
        architecture = Architecture.from_dict(
            json.loads((folder / "architecture.json").read_text())
        )
        assert architecture.id == certificate["architecture"]


def test_several_seeds(finished_copy: Path) -> None:
    run_dir = finished_copy / "run"
    before = certificates(run_dir)
    words = search_words(
        finished_copy, "--set", "family.training.seeds=2", "--set", "family.size=1"
    )
    code, said = run(words, finished_copy)
    assert code == 0, said
    (certificate,) = certificates(run_dir).values()
    assert certificate["seeds"] == [0, 1]
    first, second = certificate["select_accuracies"]
    # The first seed's training was there already.
    assert first in [each["select_accuracies"][0] for each in before.values()]
    best = 0 if first >= second else 1
    assert certificate["delivered_seed"] == best
    assert certificate["test_readings"] == 1
    assert trained_fully(run_dir) == {certificate["architecture"]} | finalists_of(run_dir)


def test_the_winner_stands_before_a_smaller_one_of_its_proxy() -> None:
    some = candidates((0.9, 900), (0.9, 800), (0.9, 100))
    assert [each.number for each in finalists(some, 200, 2)] == [2, 1]
    decided = rank_finalists(some, {0: 0.97, 1: 0.95})
    assert chosen(decided, 1) == [0]
    assert chosen(decided, 2) == [0, 2]


def test_the_first_place_is_settled_by_full_training(finished: Path, finished_copy: Path) -> None:
    run_dir = finished / "run"
    requirements = load_requirements(finished / "tiny.yaml")
    rows = json.loads((run_dir / "family" / "finalists.json").read_text())
    assert 2 <= len(rows) <= requirements.family.finalists + 1 == 5
    numbers = {row["candidate"] for row in rows}
    drawn = {
        each.number for each in read_record(run_dir).trained if each.proposed_by == "prototype"
    }
    assert drawn <= numbers
    proxies = [row["proxy_accuracy"] for row in rows]
    assert proxies == sorted(proxies, reverse=True)
    assert proxies[0] == max(each.accuracy or 0 for each in read_record(run_dir).trained)
    best = max(rows, key=lambda row: row["select_accuracy"])
    (first, *_) = certificates(run_dir).values()
    assert (first["candidate"], first["select_accuracies"][0]) == (
        best["candidate"],
        best["select_accuracy"],
    )
    report = (run_dir / "report.html").read_text()
    assert f"candidate {best['candidate']} (proxy " in report
    assert "on the held-out part after one full training, candidate 0" in report
    # Without them the best proxy has the place, and their checkpoints go.
    run_dir = finished_copy / "run"
    code, said = run(search_words(finished_copy, "--set", "family.finalists=1"), finished_copy)
    assert code == 0, said
    assert "first place" not in said
    assert finalists_of(run_dir) == set()
    members = certificates(run_dir).values()
    assert rows[0]["candidate"] in [each["candidate"] for each in members]
    assert trained_fully(run_dir) == {each["architecture"] for each in members}


def test_where_every_finalist_fails_the_others_make_the_family(finished_copy: Path) -> None:
    run_dir = finished_copy / "run"
    failed = finalists_of(run_dir)
    shutil.rmtree(run_dir / "family")
    (run_dir / "family" / "training").mkdir(parents=True)
    faults = {f"{each}-0": ["Segmentation fault"] * 2 for each in failed}
    (run_dir / "family" / "training" / "faults.json").write_text(json.dumps(faults))
    code, said = run(search_words(finished_copy), finished_copy)
    assert code in (0, 4), said
    members = certificates(run_dir).values()
    assert len(members) == FAMILY_SIZE
    assert not failed & {each["architecture"] for each in members}
    rows = json.loads((run_dir / "family" / "finalists.json").read_text())
    assert [row["select_accuracy"] for row in rows] == [None] * len(failed)


def test_a_member_without_its_certificate_is_not_whole(finished_copy: Path) -> None:
    """So it stands where a kill fell while its files were put in place."""
    run_dir = finished_copy / "run"
    (run_dir / "family" / "attonet-b" / "certificate.json").unlink()
    assert [each.certificate.title for each in gather(run_dir).family] == ["AttoNet-A", "AttoNet-C"]
    code, said = run(["report", str(run_dir)], finished_copy)
    assert code == 0, said


def test_candidates_count_as_they_are_asked_for_today(finished: Path) -> None:
    record = read_record(finished / "run")
    asked = load_requirements(finished / "tiny.yaml")
    ours = trained_within(record, asked)
    assert ours == record.trained
    wider = load_requirements(finished / "tiny.yaml", ["deploy.precision=float32"])
    for each, before in zip(trained_within(record, wider), ours, strict=True):
        assert each.cost == cost_of(each.architecture, "float32")
        assert each.cost.weight_bytes == 4 * before.cost.params
    most = max(each.cost.params for each in ours)
    limit = f"limits.weight_bytes={4 * most - 1}"
    bound = load_requirements(finished / "tiny.yaml", ["deploy.precision=float32", limit])
    assert len(trained_within(record, bound)) < len(ours)
    larger = load_requirements(finished / "tiny.yaml", ["data.resolution=16"])
    assert trained_within(record, larger) == ()
