"""A COCO instances file -> its pictures and objects, or all that is wrong with it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from collabdesign.design.files.units import shown
from collabdesign.detect.coco import CocoData, CocoImage, CocoObject, Id, coco_picture
from collabdesign.detect.requirements import CocoFiles
from collabdesign.detect.segmentation import area_of, is_number, read_segmentation
from collabdesign.errors import InputError, Problem
from collabdesign.evaluate.data.pictures import Progress, UnreadableImage, in_threads

_LISTED = 1000

_SECTIONS = ("images", "categories", "annotations")


def read_coco(
    parts: Mapping[str, CocoFiles],
    on_progress: Callable[[str, int, int], None] | None = None,
    *,
    categories: tuple[tuple[int, str], ...] | None = None,
) -> dict[str, CocoData]:
    """Read files of one data set, and decode every picture once.

    Args:
        parts: By a name such as ``train``.
        on_progress: Called now and then with a part's name, the pictures read and their total.
        categories: Which there are; files may have fewer (default: those of the first file).

    Raises:
        InputError: All problems of all files, up to 1,000.
    """
    problems: list[Problem] = []
    found: dict[str, CocoData] = {}
    for part, files in parts.items():
        reader = _Reader(files, problems)

        def tell(done: int, total: int, part: str = part) -> None:
            if on_progress is not None:
                on_progress(part, done, total)

        data = reader.read(categories, tell)
        if data is not None:
            found[part] = data
        categories = categories or reader.categories
    if problems:
        more = len(problems) - _LISTED
        listed = problems[:_LISTED]
        if more > 0:
            listed.append(Problem(f"{more:,} more problems are not listed"))
        raise InputError(listed)
    return found


class _Reader:
    """Reads one file; what is wrong is noted and the rest read on."""

    def __init__(self, files: CocoFiles, problems: list[Problem]) -> None:
        self._files, self._problems = files, problems
        self.categories: tuple[tuple[int, str], ...] | None = None
        self._name = str(files.annotations)

    def read(
        self, known: tuple[tuple[int, str], ...] | None, on_progress: Progress
    ) -> CocoData | None:
        before = len(self._problems)
        content = self._content()
        data = None if content is None else self._json(content)
        if data is None or content is None:
            return None
        categories = self._categories(data["categories"])
        if known is not None:
            self._compare(categories, known)
            categories = dict(known)
        self.categories = tuple(sorted(categories.items()))
        images = self._images(data["images"])
        objects: dict[Id, list[CocoObject]] = {each: [] for each in images}
        # Labels follow the order of the ids, which need not be that of the file.
        labels = {each: label for label, each in enumerate(sorted(categories), start=1)}
        self._objects(data["annotations"], images, labels, objects)
        self._look_at(images, on_progress)
        if len(self._problems) > before:
            return None
        filled = tuple(
            CocoImage(
                image.id,
                image.name,
                image.path,
                image.width,
                image.height,
                tuple(objects[image.id]),
            )
            for image in images.values()
        )
        return CocoData(
            self._files.annotations, self.categories, filled, _fingerprint(content, filled)
        )

    # -- the file --------------------------------------------------------------------------

    def _note(self, message: str, hint: str = "") -> None:
        self._problems.append(Problem(message, hint, self._name))

    def _content(self) -> bytes | None:
        try:
            return self._files.annotations.read_bytes()
        except OSError as error:
            self._note(f"the file must be readable: {error.strerror}")
            return None

    def _json(self, content: bytes) -> dict[str, list[Any]] | None:
        try:
            data = json.loads(content)
        except json.JSONDecodeError as error:
            place = error.lineno, error.colno
            message = f"the file must be JSON, got: {error.msg}"
            self._problems.append(Problem(message, "", self._name, *place))
            return None
        # Also text in no UTF-8, numbers of thousands of digits, and brackets in brackets.
        except (ValueError, RecursionError) as error:
            self._note(f"the file must be JSON, got: {error}")
            return None
        if not isinstance(data, dict):
            self._note(f"the file must be a mapping with {', '.join(_SECTIONS)}, got {shown(data)}")
            return None
        wrong = [key for key in _SECTIONS if not isinstance(data.get(key), list)]
        for key in wrong:
            got = shown(data[key]) if key in data else "no such key"
            self._note(f"{key} must be a list, got {got}", "is it a file of COCO's instances?")
        if not wrong and not data["images"]:
            self._note("images must have at least one picture, got none")
            return None
        return None if wrong else data

    def _entries(
        self, section: str, entries: Sequence[Any], *needed: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Those that have an id of their own and the keys, with how to name them."""
        counts = Counter(
            each["id"] for each in entries if isinstance(each, dict) and _is_id(each.get("id"))
        )
        seen: set[Id] = set()
        for index, entry in enumerate(entries):
            where = f"{section}[{index}]"
            if not isinstance(entry, dict):
                self._note(f"{where} must be a mapping, got {shown(entry)}")
                continue
            if missing := [key for key in ("id", *needed) if key not in entry]:
                self._note(f"{where} must have {', '.join(missing)}, got {shown(list(entry))}")
                continue
            if not _is_id(entry["id"]):
                got = shown(entry["id"])
                self._note(f"{where}.id must be a whole number or a text, got {got}")
                continue
            if entry["id"] in seen:
                times = counts[entry["id"]]
                self._note(f"{where}.id must stand once, got {entry['id']!r} {times} times")
                continue
            seen.add(entry["id"])
            yield f"{where} (id {entry['id']})", entry

    # -- its parts -------------------------------------------------------------------------

    def _categories(self, entries: Sequence[Any]) -> dict[int, str]:
        found: dict[int, str] = {}
        for where, entry in self._entries("categories", entries, "name"):
            if not isinstance(entry["name"], str) or not isinstance(entry["id"], int):
                what = f"id {shown(entry['id'])}, name {shown(entry['name'])}"
                self._note(f"{where} must have a number as id and a text as name, got {what}")
                continue
            found[entry["id"]] = entry["name"]
        if not entries:
            self._note("categories must have at least one, got none")
        return found

    def _compare(self, own: Mapping[int, str], known: Sequence[tuple[int, str]]) -> None:
        for number, name in own.items():
            if dict(known).get(number) != name:
                self._note(
                    f"categories must be those of the train file, got {number}: {name!r}",
                    "there are " + ", ".join(f"{each}: {of!r}" for each, of in known[:8]),
                )

    def _images(self, entries: Sequence[Any]) -> dict[Id, CocoImage]:
        found: dict[Id, CocoImage] = {}
        for where, entry in self._entries("images", entries, "file_name", "width", "height"):
            name, width, height = (entry[key] for key in ("file_name", "width", "height"))
            if not isinstance(name, str) or not name or "\0" in name:
                self._note(f"{where}.file_name must be a path, got {shown(name)}")
                continue
            if any(type(each) is not int or not 1 <= each <= 2**20 for each in (width, height)):
                got = f"{shown(width)} and {shown(height)}"
                self._note(f"{where} must have width and height in whole pixels, got {got}")
                continue
            path = self._files.images / name
            found[entry["id"]] = CocoImage(entry["id"], name, path, width, height, ())
        return found

    def _objects(
        self,
        entries: Sequence[Any],
        images: Mapping[Id, CocoImage],
        labels: Mapping[int, int],
        objects: Mapping[Id, list[CocoObject]],
    ) -> None:
        needed = ("image_id", "category_id", "bbox", "segmentation")
        for where, entry in self._entries("annotations", entries, *needed):
            image_id, category = entry["image_id"], entry["category_id"]
            label = labels.get(category, 0) if type(category) is int else 0
            if not label:
                self._note(f"{where}.category_id must be one of categories, got {shown(category)}")
            crowd = entry.get("iscrowd", 0)
            if crowd not in (0, 1):
                self._note(f"{where}.iscrowd must be 0 or 1, got {shown(crowd)}")
            if not _is_id(image_id) or image_id not in images:
                self._note(f"{where}.image_id must be one of images, got {shown(image_id)}")
                continue
            made = self._object(where, entry, images[image_id], label)
            if made is not None:
                objects[image_id].append(made)

    def _object(
        self, where: str, entry: Mapping[str, Any], image: CocoImage, label: int
    ) -> CocoObject | None:
        box = None
        try:
            box = _box(entry["bbox"], image.width, image.height)
        except InputError as error:
            self._note(f"{where}.bbox {error}")
        try:
            mask = read_segmentation(entry["segmentation"], image.height, image.width)
        except InputError as error:
            self._note(f"{where}.segmentation {error}")
            return None
        if box is None:
            return None
        left, top, across, down = map(float, entry["bbox"])
        return CocoObject(
            label=label,
            box=box,
            written_box=(left, top, across, down),
            mask=mask,
            area=_area(entry.get("area"), area_of(mask)),
            is_crowd=bool(entry.get("iscrowd", 0)),
            has_pixels=area_of(mask) > 0,
        )

    def _look_at(self, images: Mapping[Id, CocoImage], on_progress: Progress) -> None:
        """Decode every picture, as training will."""
        every = list(images.values())
        reasons = in_threads(lambda index: _fault(every[index]), len(every), on_progress)
        for image, reason in zip(every, reasons, strict=True):
            if reason:
                self._note(f"image {image.id} {reason}")


def _is_id(value: object) -> bool:
    return type(value) in (int, str)


def _area(written: Any, covered: int) -> float:
    """As the file says, for judging by size; else of the mask."""
    return float(written if is_number(written) and written >= 0 else covered)


def _box(written: object, width: int, height: int) -> tuple[float, float, float, float]:
    numbers = written if isinstance(written, list) else []
    if len(numbers) != 4 or not all(map(is_number, numbers)):
        raise InputError(f"must be left, top, width and height, got {shown(written)}")
    left, top, across, down = map(float, numbers)
    if across <= 0 or down <= 0:
        raise InputError(f"must have a width and a height above 0, got {shown(written)}")
    box = (
        max(0.0, left),
        max(0.0, top),
        min(float(width), left + across),
        min(float(height), top + down),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        raise InputError(
            f"must lie in the picture of {width}x{height} pixels, got {shown(written)}"
        )
    return box


def _fault(image: CocoImage) -> str:
    """What is wrong with a picture, empty where nothing is."""
    if not image.path.is_file():
        return f"must be a file that exists, got {image.path}"
    try:
        picture = coco_picture(image)
    except UnreadableImage as error:
        return f"must decode in full, got {image.path}: {error.reason}"
    if picture.size != (image.width, image.height):
        size = "{}x{}".format(*picture.size)
        stated = f"{image.width}x{image.height}"
        return f"must have the {stated} pixels that the file says, got {size} in {image.path}"
    return ""


def _fingerprint(content: bytes, images: Sequence[CocoImage]) -> str:
    digest = hashlib.sha256(content)
    for image in images:
        digest.update(f"{image.name} {image.path.stat().st_size}\n".encode())
    return digest.hexdigest()
