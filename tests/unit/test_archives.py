"""Archives that others made: what they hold comes to lie where it is wanted, or nowhere; with filters, and in a Python that has none."""

import io
import tarfile

import pytest

from dbml import archives


@pytest.fixture(params=[*(["filters"] if hasattr(tarfile, "data_filter") else []), "no filters"], autouse=True)
def python(request, monkeypatch):
    if request.param == "no filters":  # as before Python 3.11.4
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


def archive(*members):
    """Make an archive of (name, content or type, rest of its header)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name, content, header in members:
            member = tarfile.TarInfo(name)
            said = {"type": content, **header} if content in LINKS else {"size": len(content), **header}
            for key, value in said.items():
                setattr(member, key, value)
            made.addfile(member, None if content in LINKS else io.BytesIO(content))
    return tarfile.open(fileobj=io.BytesIO(stream.getvalue()))


LINKS = (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)


def test_files_and_folders_arrive(tmp_path):
    with archive(
        ("a.py", b"print(1)", {"mode": 0o4777, "uid": 12345, "uname": "root"}), ("deep", tarfile.DIRTYPE, {"mode": 0o755}),
        ("deep/er/größe.txt", b"", {"mode": 0o600}), ("/absolute.txt", b"x", {"mode": 0o644}), ("a.py", b"print(2)", {"mode": 0o755}),
    ) as made:  # fmt: skip
        archives.unpack(made, tmp_path)
    found = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
    assert found.keys() == {"a.py", "deep/er/größe.txt", "absolute.txt"}
    assert found["a.py"].read_text() == "print(2)" and found["a.py"].stat().st_mode & 0o7777 == 0o755
    assert not found["deep/er/größe.txt"].stat().st_mode & 0o111


@pytest.mark.parametrize(
    "members",
    [
        [("../outside", b"x", {})],
        [("deep/../../outside", b"x", {})],
        [("link", tarfile.SYMTYPE, {"linkname": "/"}), ("link/outside", b"x", {})],
        [("link", tarfile.SYMTYPE, {"linkname": ".."}), ("link/outside", b"x", {})],
        [("link", tarfile.LNKTYPE, {"linkname": "../target"})],
        [("pipe", tarfile.FIFOTYPE, {})],
        [("device", tarfile.CHRTYPE, {})],
    ],
)
def test_what_leads_outside_or_is_no_file_is_refused(tmp_path, members):
    (tmp_path / "target").write_text("the user's")
    directory = tmp_path / "directory"
    directory.mkdir()
    with archive(*members) as made, pytest.raises(tarfile.TarError):
        archives.unpack(made, directory)
    assert [path.name for path in tmp_path.iterdir() if path.name != "directory"] == ["target"]
    assert not [path for path in directory.rglob("*") if path.is_file() or path.is_symlink()]
