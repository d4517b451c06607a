"""Archives that others made, unpacked so that nothing comes to lie outside the directory."""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpack(archive: tarfile.TarFile, directory: Path) -> None:
    """Unpack an archive into a directory that is there; owners, times and devices are not taken over.

    Raises: tarfile.TarError where a member would lie or lead outside; OSError.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extractall(directory, filter="data")
        return
    # Python before 3.11.4 has no filters.  Files and folders alone: without links none leads outside.
    root = directory.resolve()
    for member in archive:
        path = (root / member.name.lstrip("/")).resolve()
        if not path.is_relative_to(root):
            raise tarfile.ReadError(f"{member.name!r} would be extracted to {str(path)!r}, which is outside the destination")
        if not (member.isreg() or member.isdir()):
            raise tarfile.ReadError(f"{member.name!r} is neither a file nor a folder, which needs Python 3.11.4 or later")
        member.name = str(path.relative_to(root))
        archive.extract(member, root, set_attrs=False)
        if member.isreg():
            path.chmod(0o644 | (member.mode & 0o111 if member.mode & 0o100 else 0))
