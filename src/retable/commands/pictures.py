"""The pictures that paths name: files, all that lie in folders, and what archives hold."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from retable.data.arrays import Unlabelled
    from retable.data.module import ImageData


@dataclass(frozen=True)
class Picture:
    """A picture's name, its file, and the path that the user knows it by, which may lead into an archive."""

    name: str
    file: Path
    shown: Path

    def read(self, size: tuple[int, int] | None = None, mode: str = "RGB") -> "np.ndarray":
        """Pixels as `read_image` gives them. Raises DataError."""
        from retable.data.formats.pictures import read_image

        return self._named(lambda: read_image(self.file, size, mode))

    def unlabelled(self, data: "ImageData", shape: tuple[int, int, int]) -> "Unlabelled":
        """The file as a set's models take it. Raises DataError."""
        return self._named(lambda: data.unlabelled(self.file, shape))

    def _named(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except DataError as error:
            raise DataError(str(error).replace(str(self.file), str(self.shown))) from error


def find_pictures(
    path: Path, scratch: Path, suffixes: Sequence[str], left_out: Counter[str] | None
) -> Iterator[Picture]:
    """The picture that a path names, or all below it: in a folder, or in an archive, which is unpacked into scratch."""
    from retable.data.formats.files import is_archive, unpack
    from retable.data.formats.pairs import pictures_below

    endings = tuple(suffixes)
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.name.lower().endswith(endings) and not path.is_dir():
        yield Picture(path.name, path, path)
        return
    if not path.is_dir() and not is_archive(path):
        raise DataError(f"{path}: accepted: files {', '.join(suffixes)}, and folders or archives of them")
    folder = path if path.is_dir() else unpack(path, scratch, lambda name: name.name.lower().endswith(endings))
    for name in pictures_below(folder, left_out, suffixes):
        yield Picture(str(name), folder / name, path / name)


def refuse_nothing(paths: Sequence[Path], count: int, suffixes: Sequence[str]) -> None:
    if not count:
        raise DataError(f"{', '.join(map(str, paths))}: no images; accepted: {', '.join(suffixes)}")
