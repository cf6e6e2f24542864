"""Files -> arrays, through the cache: what a set on images says of its files, and what is kept of them."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from retable.atomic import staged_folder
from retable.config.keys import canonical
from retable.data.arrays import ImageSet, Splits
from retable.data.cache import cached, pack, pack_split, unpack, unpack_split
from retable.data.fingerprints import USE, fingerprint, paths_in, recall, remember
from retable.data.loader import Resident, channel_statistics, free_memory, resident, statistics
from retable.data.split import proportional_share
from retable.errors import DataError

# Beside how images are used: where they come from and which of them are used. Neither changes what reading them gives.
_SOURCE = ("source", "root", "fraction", "scale")


class Reading:
    """The part of `ImageData` that needs no device: finding, reading and keeping a set."""

    folder: ClassVar[str] = ""
    sample_version: ClassVar[int] = 1  # raise it when make_sample makes other files
    # Raise it when read gives other arrays for the same files. A class outside this package need not: its module's
    # source is part of what its arrays are known by. (A module that it imports is not.)
    read_version: ClassVar[int] = 1
    _sources: ClassVar[dict[str, str]] = {}  # sha256 of the files of such classes, as they were when they were imported

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        own = [base.__module__ for base in cls.__mro__[: cls.__mro__.index(Reading)]]
        cls._sources = dict(map(_source, (name for name in own if name.split(".")[0] != "retable")))

    def files(self) -> Any:
        """Find the files that make up the set, below `location`.

        Returns:
            Paths, in any nesting of lists, tuples, mappings and dataclasses, with whatever else `read` needs to know.

        Raises:
            DataError: naming what is expected where.
        """
        raise NotImplementedError

    def read(self, files: Any) -> Splits:
        """Read the files.

        Args:
            files: what `files` found.

        Raises:
            DataError: naming the file and its fault.
        """
        raise NotImplementedError

    def download(self) -> None:
        """Fetch the real set, or raise DataError. The base class has nothing to fetch from."""

    def make_sample(self, folder: Path) -> None:
        """Write a small synthetic set into an empty folder."""
        raise DataError(f"data.source=sample: {type(self).__name__} has no sample set")

    def reading(self) -> dict[str, Any]:
        """What the result of `read` depends on beside the files: by default all arguments but use and source."""
        given = {key: value for key, value in self._given.items() if key not in (*USE, *_SOURCE)}
        return given | {"split_seed": self.split_seed}

    @property
    def location(self) -> Path:
        """The folder of this set's files: the real set's or the sample's, or the one that `read_at` named."""
        if self._location is not None:
            return self._location
        if self.source == "sample":
            own = "".join(self._sources.values())  # two projects may have a set of one name
            suffix = f"-{hashlib.sha256(own.encode()).hexdigest()[:8]}" if own else ""
            return self.cache / "sample" / f"{self.folder}-{self.sample_version}{suffix}"
        return self.root / self.folder

    def read_at(self, location: Path, classes: Sequence[str] | None = None) -> None:
        """Read another set of the same format, from this folder.

        Args:
            classes: names by label, for a format that would look for them in a file of their own.
        """
        self._location = Path(location)

    def expect(self, files: list[Path]) -> list[Path]:
        """The files themselves, if all exist. Raises DataError that lists those that do not."""
        missing = [file for file in files if not file.is_file()]
        if missing:
            folders = sorted({str(file.parent) for file in missing})
            names = ", ".join(file.name for file in missing)
            raise DataError(f"{', '.join(folders)}: expected here, but missing: {names} {self._where}")
        return files

    @property
    def _where(self) -> str:
        """Where the set is looked for, to be said where it is missing."""
        return f"(data.root or RETABLE_DATA names the folder above {self.folder}; data=sample needs no files)"

    def prepare(self) -> None:
        """Read the set, through the cache. Needs no device. Raises DataError."""
        if self.splits is not None:
            return
        files = self._find()
        paths = paths_in(files)
        self.fingerprint = fingerprint(paths, self.cache, self.location)
        made_from = self.made_from()
        mapped_share = [False] if self.fraction < 1 and self.resident is False else []
        key = canonical([made_from, self.fraction, self.split_seed, self.scale, *mapped_share])
        self._resident = resident(key, lambda: self._load(key, made_from, files))
        self.splits, self.counts = self._resident.splits, dict(self._resident.counts)
        self.mean, self.std = self._resident.mean, self._resident.std
        config = {"_target_": made_from["reader"]} | self._given
        if self._location is None and recall(self.cache, config) != self.fingerprint:
            remember(self.cache, config, [*paths, *filter(None, self._sources)], self.fingerprint)

    def made_from(self) -> dict[str, Any]:
        """All that the arrays depend on, by which the cache knows them; `prepare` has taken the fingerprint before."""
        made_from = {
            "fingerprint": self.fingerprint,
            "reader": f"{type(self).__module__}.{type(self).__qualname__}",
            "version": self.read_version,
            "reading": self.reading(),
        }
        if self._sources:  # a class that builds upon a set may take keys that the set's `reading` does not know
            made_from |= {"sources": sorted(self._sources.values()), "given": Reading.reading(self)}
        return made_from

    def _find(self) -> Any:
        if self.source == "sample":
            if not self.location.is_dir():
                try:
                    with staged_folder(self.location) as folder:
                        self.make_sample(folder)
                except OSError as error:
                    raise DataError(f"data.cache={self.cache}: cannot be written ({error.strerror})") from error
            return self.files()
        try:
            return self.files()
        except DataError:
            self.download()
            return self.files()

    def _load(self, key: str, made_from: dict[str, Any], files: Any) -> Resident:
        if "" in self._sources:  # a class typed into a notebook: nobody could say that what is kept is what it reads
            arrays, rest = self._packed(files)
        else:
            arrays, rest = cached(self.cache, self._entry, made_from, lambda: self._packed(files))
        splits = unpack(arrays, rest)
        left_out = dict(splits.left_out)
        read = sum(map(len, splits.distinct.values())) + sum(left_out.values())
        if self.fraction < 1:
            train = splits.train
            splits = replace(splits, train=self._share(train, made_from))
            left_out["data.fraction"] = len(train) - len(splits.train)
        counts = {"read": read, "left_out": sum(left_out.values())}
        counts |= {name: len(split) for name, split in splits.by_name.items()}
        if left_out:
            counts["reasons"] = left_out
        known = rest.get("channel_statistics") if self.fraction == 1 else None
        return Resident(key, splits, counts, *statistics(splits.train.images, self.scale, known))

    def _share(self, train: ImageSet, made_from: dict[str, Any]) -> ImageSet:
        """data.fraction of the training set: in memory, or, where the images are not to be, an entry of the cache."""
        labels = train.targets if train.targets.ndim == 1 else np.zeros(len(train), np.int64)
        index = proportional_share(labels, self.fraction, self.split_seed)
        size = (train.images.nbytes + train.targets.nbytes) * len(index) / len(train)
        fits = self.resident is True or (self.resident == "auto" and size <= free_memory(torch.device("cpu")) / 2)
        if fits or "" in self._sources:
            return train.take(index)
        share = {**made_from, "fraction": self.fraction, "split_seed": self.split_seed}
        arrays, _ = cached(self.cache, self._entry, share, lambda: (pack_split("train", train.take(index)), {}))
        return unpack_split("train", arrays)

    @property
    def _entry(self) -> str:
        """How the names of this set's entries in the cache begin, for people."""
        return self.folder.replace("/", "-")

    def _packed(self, files: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, rest = pack(self.read(files))
        if arrays["train_images"].dtype == np.uint8:  # looking at every pixel takes ten times as long as loading them
            rest["channel_statistics"] = channel_statistics(arrays["train_images"])
        return arrays, rest


def _source(module: str) -> tuple[str, str]:
    """A module's file and its sha256; "" and "" where there is none."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    try:
        return file, hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return "", ""
