"""The cache as it lies on the disk, looked up by name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable

from zitcache.cache.inventory import Model, inventory
from zitcache.cache.tree import Kind, LeftOut, TreeItem
from zitcache.cache.walk import scan_tree
from zitcache.tasks.reading import Identity
from zitcache.tasks.verify.scope import Scope


class Live:
    """The tree below ``scope.root``; what of it is in the scope; and the models there."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        tree = scan_tree(scope.root)
        self.by_path: dict[str, TreeItem] = {item.path: item for item in tree.items}
        self.items: list[TreeItem] = [item for item in tree.items if scope.covers(item.path)]
        self.left_out: dict[str, LeftOut] = {entry.path: entry for entry in tree.left_out}
        self.models: tuple[Model, ...] = tuple(
            model for model in inventory(scope.root).models if scope.overlaps(self.relative(model.path))
        )
        self._names: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for model in self.models:
            for file in model.files:
                content = self.content_of(file.path)
                if content is not None:
                    short = os.path.relpath(file.path, self.relative(model.path) or ".")
                    self._names[content.path].append((file.path, short))

    def relative(self, path: str | os.PathLike[str]) -> str:
        """``path`` relative to the cache; "" for the cache itself."""
        found = os.path.relpath(path, self.scope.root)
        return "" if found == "." else found

    def full_path(self, path: str) -> str:
        """``path`` made absolute."""
        return os.path.join(self.scope.root, path)

    def content_of(self, path: str) -> TreeItem | None:
        """The regular file, by its first name, that holds the bytes shown at ``path``; None for none."""
        item = self.by_path.get(path)
        if item is not None and item.kind is Kind.SYMLINK:
            item = self.by_path.get(self.relative(os.path.realpath(self.full_path(path))))
        if item is not None and item.kind is Kind.HARDLINK and item.target is not None:
            item = self.by_path.get(item.target)
        return item if item is not None and item.kind is Kind.FILE else None

    def contents(self, more: Iterable[str]) -> list[TreeItem]:
        """Every regular file that is in the scope, is shown by a link in it, or by one of ``more`` names."""
        names = [*(item.path for item in self.items), *more]
        found = {item.path: item for name in names if (item := self.content_of(name)) is not None}
        return sorted(found.values(), key=lambda item: os.fsencode(item.path))

    def names_of(self, content: str) -> list[str]:
        """The model files, relative to the cache, that show the bytes of ``content``."""
        return [name for name, _ in self._names.get(content, ())]

    def short_name(self, content: str) -> str:
        """What people call it: the path in its model where it is a model's file."""
        names = self._names.get(content)
        if names:
            return names[0][1]
        folders = [self.relative(model.path) + "/" for model in self.models]
        return next((content[len(folder) :] for folder in folders if content.startswith(folder)), content)

    def is_model_file(self, content: str) -> bool:
        """Whether the bytes of ``content`` belong to a model, not to the bookkeeping of a tool."""
        return content in self._names

    def left_out_above(self, path: str) -> LeftOut | None:
        """Why ``path`` was not listed: it, or a directory above it, was left out."""
        while path:
            if path in self.left_out:
                return self.left_out[path]
            path = os.path.dirname(path)
        return None


def identity_of(item: TreeItem) -> Identity:
    """What tells that the file is still the one that was listed."""
    return Identity(item.size, item.mtime_ns, item.ctime_ns, item.inode)
