"""What a certificate says is measured anew, and what was changed is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_search
import torch
from spaces import SPACES
from tiny_search import write_tiny

import collabdesign
from collabdesign import Machine, cost_of, load_requirements
from collabdesign.deliver.counters import counts_of
from collabdesign.deliver.verify import Verification, verify
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError

HERE = Machine("cpu", workers=1, threads=1)
SHORT = ("search.trials=2", "family.size=1", "family.finalists=1")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Requirements:
    changes = (*SHORT, "family.training.epochs=2")
    return load_requirements(write_tiny(tmp_path_factory.mktemp("asked")), changes)


@pytest.fixture(scope="module")
def run_dir(asked: Requirements, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a member in all usual forms; to look at, not to change."""
    family = asked.family.model_copy(update={"export": None})
    requirements = asked.model_copy(update={"family": family})
    folder = tmp_path_factory.mktemp("verified") / "run"
    return collabdesign.run(requirements, folder, machine=HERE).run_dir


@pytest.fixture
def member(run_dir: Path, tmp_path: Path) -> Path:
    """A member's folder, to change."""
    folder = tmp_path / "attonet-a"
    shutil.copytree(run_dir / "family" / "attonet-a", folder)
    return folder


def differing(found: Verification) -> dict[str, str]:
    """By what they are of, the notes of the figures that are not as recorded."""
    return {each.what: each.note for each in found.differing}


def test_a_member_is_as_recorded(member: Path, asked: Requirements) -> None:
    seen: list[Any] = []
    found = verify(member, asked, run_model_py=True, on_check=seen.append)
    assert not found.differing
    assert tuple(seen) == found.checks
    assert all(each.agrees for each in found.checks)
    expected = {"weights.pt", "model.py", "model.py, run", "held-out accuracy", "test accuracy"}
    expected |= {"test images", "check value", "limit macs, at most 30,000"}
    assert expected <= {each.what for each in found.checks}
    forms = {"model.onnx, test accuracy", "model.int8.onnx, test accuracy"}
    if (member / "model.onnx").is_file():
        assert forms <= {each.what for each in found.checks}


def test_every_flipped_byte_of_the_weights_is_noticed(member: Path) -> None:
    path = member / "weights.pt"
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "weights.pt" in differing(verify(member, None))
    path.unlink()
    assert "weights.pt" in differing(verify(member, None))


@pytest.mark.parametrize("name", ["STD = (", "CHECK_VALUE = ", "    stem=Stem(kernel=3, stride="])
def test_a_changed_number_in_model_py_is_named(name: str, member: Path) -> None:
    path = member / "model.py"
    text = path.read_text()
    place = text.index(name) + len(name)
    while not text[place].isdigit():
        place += 1
    other = "7" if text[place] != "7" else "5"
    path.write_text(text[:place] + other + text[place + 1 :])
    (note,) = differing(verify(member, None)).values()
    number = text[:place].count("\n") + 1
    assert note.startswith(
        f"line {number} is {path.read_text().splitlines()[number - 1].strip()!r}"
    )
    path.write_text(text + "print()\n")
    (note,) = differing(verify(member, None)).values()
    assert note == f"line {text.count(chr(10)) + 1} is 'print()', and was not there"


def edit(member: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = member / "certificate.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data["cost"].update(macs=data["cost"]["macs"] - 1), "counted by ptflops"),
        (lambda data: data["requirements"][1].update(value=1), "limit params"),
        (lambda data: data.update(test_accuracy=data["test_accuracy"] + 0.05), "test accuracy"),
        (lambda data: data["requirements"][2].update(value=0.999), "goal accuracy"),
        (lambda data: data.update(select_accuracies=[0.999]), "held-out accuracy"),
        (lambda data: data.update(check_value=data["check_value"] + 0.1), "check value"),
        (lambda data: data["data"].update(test_sha256="0" * 64), "test images"),
    ],
)
def test_a_changed_certificate_is_noticed(
    change: Callable[[dict[str, Any]], Any], named: str, member: Path, asked: Requirements
) -> None:
    edit(member, change)
    assert any(each.startswith(named) for each in differing(verify(member, asked)))


def test_other_images_are_noticed(member: Path, asked: Requirements) -> None:
    data = asked.data.model_copy(update={"train_images": 400})
    found = verify(member, asked.model_copy(update={"data": data}))
    assert list(differing(found)) == ["train and held-out images"]
    assert "test accuracy" not in {each.what for each in found.checks}


def test_a_changed_form_is_noticed(member: Path, asked: Requirements) -> None:
    path = member / "model.onnx"
    if not path.is_file():
        pytest.skip("onnxruntime is not installed")
    path.write_bytes((member / "model.int8.onnx").read_bytes())
    found = differing(verify(member, asked))
    assert "model.onnx" in found
    assert "model.onnx, beside the network" in found
    path.write_bytes(b"no model")
    assert "model.onnx, held-out accuracy" in differing(verify(member, asked))
    path.unlink()
    assert "model.onnx" in differing(verify(member, asked))


# -- a stranger's folder -------------------------------------------------------------------------


def test_nothing_of_a_stranger_is_run(member: Path, asked: Requirements, tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    text = (member / "model.py").read_text()
    evil = text.replace("\nimport sys\n", f"\nopen({str(mark)!r}, 'w')\nimport sys\n")
    (member / "model.py").write_text(evil)
    (member / "torch.py").write_text(f"open({str(mark)!r}, 'w')\n")
    (member / "conftest.py").write_text(f"open({str(mark)!r}, 'w')\n")

    class Evil:
        def __reduce__(self) -> Any:
            return open, (str(mark), "w")

    kept = (member / "weights.pt").read_bytes()
    torch.save({"stem.conv.weight": Evil()}, member / "weights.pt")
    found = verify(member, asked)
    assert {"weights.pt", "model.py", "the network"} <= differing(found).keys()
    (member / "weights.pt").write_bytes(kept)
    (member / "torch.py").unlink()
    assert "model.py" in differing(verify(member, asked))
    assert not mark.exists()
    verify(member, asked, run_model_py=True)
    assert mark.exists()


def test_a_model_py_that_computes_something_else_is_noticed_when_it_is_run(
    member: Path, asked: Requirements
) -> None:
    text = (member / "model.py").read_text()
    (member / "model.py").write_text(
        text.replace("return network.eval()", "return network.train()")
    )
    found = differing(verify(member, asked, run_model_py=True))
    assert found.keys() == {"model.py", "model.py, run"}
    (member / "model.py").write_text("raise OSError('away')\n")
    found = differing(verify(member, None, run_model_py=True))
    assert "OSError: away" in found["model.py, run"]


def test_model_py_finds_packages_where_this_process_has_them(
    member: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where torch lies on PYTHONPATH, which a process of its own would not look at."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "as_torch_may.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    text = (member / "model.py").read_text()
    (member / "model.py").write_text(text.replace("import sys\n", "import sys, as_torch_may\n", 1))
    assert differing(verify(member, None, run_model_py=True)).keys() == {"model.py"}


def test_a_file_beside_the_folder_is_not_read(member: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["exports"] = [{"format": "onnx", "file": "../../secret"}]

    edit(member, change)
    with pytest.raises(InputError, match="must be a certificate"):
        verify(member, None)


# -- the command -----------------------------------------------------------------------------------


def test_the_command_finds_the_requirements_of_the_run(run_dir: Path, tmp_path: Path) -> None:
    folder = run_dir / "family" / "attonet-a"
    code, said = tiny_search.run(["verify", str(folder)], tmp_path)
    assert code == 0, said
    assert "All that was measured is as recorded." in said
    shutil.copytree(folder, tmp_path / "alone")
    words = ["verify", str(tmp_path / "alone")]
    code, said = tiny_search.run(words, tmp_path)
    assert (code, "--requirements FILE" in said) == (2, True)
    code, said = tiny_search.run([*words, "--without-data"], tmp_path)
    assert code == 0, said
    assert "not measured accuracies" in said
    file = ["--requirements", str(run_dir / "requirements.yaml")]
    (tmp_path / "alone" / "model.py").write_text("")
    code, said = tiny_search.run([*words, *file, "--json"], tmp_path)
    assert code == 4
    wrong = [each["what"] for each in json.loads(said)["checks"] if each["agrees"] is False]
    assert wrong == ["model.py"]
    code, said = tiny_search.run(["verify", str(tmp_path)], tmp_path)
    assert (code, "holds a certificate.json" in said) == (2, True)


COMMITTED = sorted(tiny_search.REPOSITORY.glob("experiments/*/attonet-*"))


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_committed_members_are_as_recorded(folder: Path) -> None:
    found = verify(folder, None, run_model_py=True)
    assert not differing(found)
    assert "model.py, run" in {each.what for each in found.checks}


# -- counters --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_three_counters_agree(name: str) -> None:
    space = SPACES[name]
    architecture = space.decode(space.own())
    cost = cost_of(architecture)
    counts = counts_of(architecture)
    assert len(counts) == 3
    assert {(each.macs, each.params) for each in counts} == {(cost.macs, cost.params)}
    # Each counts by itself.
    wider = replace(architecture, classes=architecture.classes + 1)
    assert all(
        more.macs > each.macs and more.params > each.params
        for each, more in zip(counts, counts_of(wider), strict=True)
    )
