"""Pictures that a table lists, and pictures inside of parquet files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from collabdesign.design.files.reading import load_requirements
from collabdesign.design.sources import Data
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import load_data, load_test
from collabdesign.evaluate.data.inspect import inspect_data

REQUIREMENTS = """\
name: listed
prototype:
  stem: {{kernel: 3, stride: 1, channels: 8}}
  stages: [{{modules: 1, stride: 2, channels: 8, module: one}}]
  modules: {{one: {{depth: 1, layers: [conv3]}}}}
data: {data}
"""


def picture(number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_table(folder: Path, rows: str, count: int = 30) -> Path:
    """Pictures 0.png to so many, and a table of these lines."""
    (folder / "files").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(number).save(folder / "files" / f"{number}.png")
    (folder / "table.csv").write_text(rows, encoding="utf-8")
    return folder / "table.csv"


def lines(count: int, first: int = 0, split: str | None = None) -> str:
    """Even numbers are cats, odd ones dogs."""
    more = "" if split is None else f",{split}"
    return "".join(
        f"files/{number}.png,{('cat', 'dog')[number % 2]}{more}\n"
        for number in range(first, first + count)
    )


def requirements(folder: Path, data: str, *overrides: str) -> Data:
    """As a person writes them, read with every check."""
    (folder / "r.yaml").write_text(REQUIREMENTS.format(data=data))
    return load_requirements(folder / "r.yaml", overrides).data


def test_a_table_is_read_like_a_folder(tmp_path: Path) -> None:
    write_table(tmp_path, "path,label\n" + lines(30))
    data = requirements(tmp_path, "{source: csv, train: table.csv, resolution: 8}")
    assert (data.classes, data.train) == (2, tmp_path / "table.csv")
    loaded, test = load_data(data), load_test(data)
    assert loaded.class_names == ("cat", "dog")
    assert (len(loaded.train_labels), len(loaded.select_labels), len(test.labels)) == (19, 5, 6)
    for image, label in zip(test.images, test.labels.tolist(), strict=True):
        pixels = image.permute(1, 2, 0).numpy()
        (number,) = (n for n in range(30) if np.array_equal(np.asarray(picture(n)), pixels))
        assert number % 2 == label


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_may_say_the_parts(tmp_path: Path, delimiter: str) -> None:
    text = "Label,extra,Path,SPLIT\n"
    for number in range(30):
        split = "Test" if number >= 24 else ("valid" if number % 5 == 0 else "train")
        text += f"{number % 2},x,files/{number}.png,{split}\n"
    write_table(tmp_path, "\ufeff" + text.replace(",", delimiter))
    data = requirements(tmp_path, "{source: csv, train: table.csv, resolution: 8}")
    assert inspect_data(data).images == (19, 5, 6)
    assert load_test(data).labels.tolist() == [0, 1] * 3


def test_a_fraction_or_another_table_may_be_test(tmp_path: Path) -> None:
    write_table(tmp_path, "path,label,split\n" + lines(24, split="train") + lines(6, 24, "test"))
    written = "{source: csv, train: table.csv, resolution: 8}"
    assert inspect_data(requirements(tmp_path, written, "data.test=0.5")).images == (12, 3, 15)
    (tmp_path / "other.csv").write_text("path,label\n" + lines(4, 24))
    data = requirements(tmp_path, written, f"data.test={tmp_path / 'other.csv'}")
    assert len(load_test(data).labels) == 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "must name the columns path and label, got nothing"),
        ("file,label\na,b\n", "must name the columns path and label, got file, label"),
        ("path,label\nfiles/0.png,\n,dog\n", "line 2 has no label, line 3 has no path"),
        ("path,label,split\nfiles/0.png,cat,tset\n", "line 2 has the split 'tset'"),
        ("path,label\nfiles/0.png,cat\n", "must list at least two classes"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, rows: str, message: str) -> None:
    write_table(tmp_path, rows, count=2)
    with pytest.raises(InputError) as caught:
        requirements(tmp_path, "{source: csv, train: table.csv, resolution: 8}")
    assert message in str(caught.value)
    assert "r.yaml:6" in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a file that can be read"):
        requirements(tmp_path, "{source: csv, train: no.csv, resolution: 8}")


def test_pictures_that_a_table_names_and_that_are_not_there(tmp_path: Path) -> None:
    write_table(tmp_path, "path,label\n" + lines(30), count=28)
    data = requirements(tmp_path, "{source: csv, train: table.csv, resolution: 8}")
    found = inspect_data(data)
    assert found.images is None
    unreadable = [path for part in found.parts for path, _ in part.unreadable]
    assert sorted(Path(path).name for path in unreadable) == ["28.png", "29.png"]
    with pytest.raises(InputError, match=r"29\.png: No such file or directory"):
        load_data(data)


def test_a_class_that_test_lacks_is_allowed_by_one_key(tmp_path: Path) -> None:
    rows = lines(24, split="train") + "files/24.png,cat,test\nfiles/26.png,cat,test\n"
    write_table(tmp_path, "path,label,split\n" + rows)
    written = "{source: csv, train: table.csv, resolution: 8}"
    with pytest.raises(InputError, match="must have the classes of train, got none for dog"):
        requirements(tmp_path, written)
    data = requirements(tmp_path, written, "data.test_may_lack_classes=true")
    assert load_test(data).lacking == ("dog",)
    assert inspect_data(data).lacking == ("dog",)


# -- parquet ----------------------------------------------------------------------------------


def write_parquet(
    path: Path, numbers: range, *, names: list[str] | None = None, **columns: str
) -> None:
    """Rows as Hugging Face's datasets write them: encoded files, and numbers of classes."""
    arrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = []
    for number in numbers:
        file = io.BytesIO()
        picture(number).save(file, "PNG")
        images.append({"bytes": file.getvalue(), "path": f"{number}.png"})
    labels: list[Any] = [number % 2 for number in numbers]
    if names is None:
        labels = [("cat", "dog")[label] for label in labels]
    image, label = columns.get("image", "image"), columns.get("label", "label")
    table = arrow.table({image: images, label: labels, "id": list(numbers)})
    if names is not None:
        features = {label: {"names": names, "_type": "ClassLabel"}, image: {"_type": "Image"}}
        note = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": note})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=7)


def test_parquet_files_of_a_hub(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_parquet(folder / "train-00000-of-00002.parquet", range(20), names=["owl", "ant"])
    write_parquet(folder / "train-00001-of-00002.parquet", range(20, 40), names=["owl", "ant"])
    write_parquet(folder / "test-00000-of-00001.parquet", range(40, 50), names=["owl", "ant"])
    data = requirements(tmp_path, "{source: parquet, train: data, resolution: 8}")
    loaded, test = load_data(data), load_test(data)
    assert loaded.class_names == ("owl", "ant")  # the numbers' order
    assert (len(loaded.train_labels), len(loaded.select_labels), len(test.labels)) == (32, 8, 10)
    expected = torch.from_numpy(np.stack([np.asarray(picture(n)) for n in range(40, 50)]))
    assert torch.equal(test.images.permute(0, 2, 3, 1), expected)
    assert test.labels.tolist() == [0, 1] * 5
    parts = [loaded.train_images, loaded.select_images]
    pictures = {image.permute(1, 2, 0).numpy().tobytes() for part in parts for image in part}
    assert pictures == {picture(number).tobytes() for number in range(40)}


def test_one_parquet_file_with_names_and_other_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", range(40), image="img", label="fine_label")
    written = "{source: parquet, train: all.parquet, resolution: 8}"
    with pytest.raises(InputError, match="must have the column 'label', it has img, fine_label"):
        requirements(tmp_path, written)
    with pytest.raises(InputError, match="must have the column 'image'"):
        load_data(requirements(tmp_path, written, "data.label_column=fine_label"))
    keys = ["data.label_column=fine_label", "data.image_column=img"]
    data = requirements(tmp_path, written, *keys)
    assert load_data(data).class_names == ("cat", "dog")
    assert inspect_data(data).images == (26, 6, 8)


def test_broken_pictures_and_files_of_parquet(tmp_path: Path) -> None:
    arrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_parquet(tmp_path / "all.parquet", range(40))
    table = pq.read_table(tmp_path / "all.parquet")
    images = table["image"].to_pylist()
    images[5] = {"bytes": b"no picture", "path": "5.png"}
    images[6] = {"bytes": None, "path": "elsewhere.png"}
    table = table.set_column(0, "image", arrow.array(images))
    pq.write_table(table, tmp_path / "all.parquet")
    written = "{source: parquet, train: all.parquet, resolution: 8}"
    with pytest.raises(InputError) as caught:
        load_data(requirements(tmp_path, written))
    assert "row 5 of" in str(caught.value) and "row 6 of" in str(caught.value)
    (tmp_path / "all.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="a parquet file must be readable"):
        requirements(tmp_path, written)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="must hold some, got none in"):
        requirements(tmp_path, written.replace("all.parquet", "none"))
