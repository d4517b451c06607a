"""Bytes in parts: up, named, and down again; what is not used goes away, and nobody takes another's."""

from __future__ import annotations

import hashlib
import os
import uuid
from typing import Any

import psycopg
import pytest

from dbml import errors
from dbml.store.client import uploads

MIB = 1 << 20


def _upload(db: psycopg.Connection[Any], content: bytes) -> bytes:
    upload = uploads.begin(db)
    for ordinal, start in enumerate(range(0, len(content), MIB)):
        uploads.send(db, upload, ordinal, content[start : start + MIB])
    return uploads.finish(db, upload, hashlib.sha256(content).digest(), len(content))


def _run(db: psycopg.Connection[Any]) -> uuid.UUID:
    return db.execute("SELECT dbml.start_run('uploads')").fetchone()[0]  # type: ignore[index]


def _kept(db: psycopg.Connection[Any], digest: bytes) -> bool:
    return db.execute("SELECT count(*) FROM dbml._blobs WHERE digest = %s", (digest,)).fetchone() == (1,)


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 3 * MIB])
def test_there_and_back(db: psycopg.Connection[Any], size: int) -> None:
    content = os.urandom(size)
    digest = _upload(db, content)
    run_id = _run(db)
    assert db.execute("SELECT dbml.add_artifact(%s, 'a/b.bin', %s)", (run_id, digest)).fetchone() == (size,)
    parts = []
    while (part := db.execute("SELECT dbml.artifact_part(%s, 'a/b.bin', %s)", (run_id, len(parts))).fetchone()[0]) is not None:  # type: ignore[index]
        parts.append(bytes(part))
    assert b"".join(parts) == content and all(len(part) == MIB for part in parts[:-1])
    assert db.execute("SELECT dbml.artifact_bytes(%s, 'a/b.bin')", (run_id,)).fetchone() == (content,)


def test_an_upload_is_for_one_use(db: psycopg.Connection[Any]) -> None:
    digest = _upload(db, os.urandom(10))
    run_id = _run(db)
    db.execute("SELECT dbml.add_artifact(%s, 'one', %s)", (run_id, digest))
    with pytest.raises(errors.UploadNotFound, match="must have been uploaded"):
        db.execute("SELECT dbml.add_artifact(%s, 'two', %s)", (run_id, digest))
    with pytest.raises(errors.UploadNotFound):
        db.execute("SELECT dbml.add_artifact(%s, 'two', sha256('never'))", (run_id,))


def test_a_name_is_taken_until_it_is_replaced(db: psycopg.Connection[Any]) -> None:
    run_id = _run(db)
    first, second = os.urandom(10), os.urandom(10)
    add = "SELECT dbml.add_artifact(%s, 'one', dbml.upload_bytes(%s), replace => %s)"
    db.execute(add, (run_id, first, False))
    with pytest.raises(errors.InvalidArgument, match='has an artifact "one"'):
        db.execute(add, (run_id, second, False))
    db.execute(add, (run_id, second, True))
    assert db.execute("SELECT dbml.artifact_bytes(%s, 'one')", (run_id,)).fetchone() == (second,)
    assert not _kept(db, hashlib.sha256(first).digest())


def test_what_is_wrong_with_parts_is_said(db: psycopg.Connection[Any]) -> None:
    digest = hashlib.sha256(b"ab").digest()
    upload = uploads.begin(db)
    for bad in (b"", b"x" * (MIB + 1)):
        with pytest.raises(errors.InvalidArgument, match="a part must have 1 to 1048576 bytes"):
            uploads.send(db, upload, 0, bad)
    with pytest.raises(errors.InvalidArgument, match="ordinal must be 0 or more"):
        uploads.send(db, upload, -1, b"x")
    uploads.send(db, upload, 1, b"b")
    with pytest.raises(errors.InvalidArgument, match="part 1 is not so"):
        uploads.finish(db, upload, digest, 1)
    uploads.send(db, upload, 0, b"a")
    with pytest.raises(errors.InvalidArgument, match="part 0 is not so"):
        uploads.finish(db, upload, digest, 2)
    upload = uploads.begin(db)
    uploads.send(db, upload, 0, b"xx")
    uploads.send(db, upload, 0, b"ab")  # sent again
    with pytest.raises(errors.InvalidArgument, match="got 2 of 3"):
        uploads.finish(db, upload, digest, 3)
    with pytest.raises(errors.ModelLoadError, match="must have the digest"):
        uploads.finish(db, upload, hashlib.sha256(b"ac").digest(), 2)
    assert uploads.arrived(db, upload) == {0: digest}
    assert uploads.finish(db, upload, digest, 2) == digest
    with pytest.raises(errors.InvalidArgument, match="is finished"):
        uploads.send(db, upload, 0, b"ab")
    with pytest.raises(errors.UploadNotFound):
        uploads.send(db, uuid.uuid4(), 0, b"ab")


def test_large_bytes_under_anothers_digest_are_no_gift(db: psycopg.Connection[Any]) -> None:
    """Beyond what the server checks, a liar's bytes are not handed to who sends the true ones."""
    claimed = os.urandom(32)
    for content, refused in ((b"junk", False), (b"true", True)):
        upload = uploads.begin(db)
        db.execute(
            "INSERT INTO dbml._upload_parts SELECT %s, g, dbml._keep_chunk(convert_to(rpad('', 1048576, %s), 'UTF8')), 1048576"
            " FROM generate_series(0, 64) g",
            (upload, content.decode()),
        )
        if refused:
            with pytest.raises(errors.ModelLoadError, match="other bytes are kept"):
                uploads.finish(db, upload, claimed, 65 * MIB)
            uploads.abandon(db, upload)
        else:
            liar = upload
            uploads.finish(db, upload, claimed, 65 * MIB)
    uploads.abandon(db, liar)
    assert not _kept(db, claimed)


def test_another_roles_upload_is_as_good_as_none(db: psycopg.Connection[Any], role: str) -> None:
    upload = uploads.begin(db)
    uploads.send(db, upload, 0, b"ab")
    kept = _upload(db, os.urandom(20))
    run_id = _run(db)
    db.execute(f"GRANT dbml_scripter TO {role}; SET ROLE {role}")  # type: ignore[arg-type]
    for statement, values in (
        ("SELECT dbml.upload_part(%s, 1, 'c')", (upload,)),
        ("SELECT * FROM dbml.upload_parts(%s)", (upload,)),
        ("SELECT dbml.finish_upload(%s, sha256('ab'), 2)", (upload,)),
        ("SELECT dbml.add_artifact(%s, 'stolen', %s)", (run_id, kept)),
        ("SELECT dbml.register_model_files('stolen', jsonb_build_array(jsonb_build_object('path', 'x', 'digest', encode(%s, 'hex'))))",
         (kept,)),
    ):  # fmt: skip
        with pytest.raises((errors.UploadNotFound, psycopg.errors.InsufficientPrivilege)):
            db.execute(statement, values)  # type: ignore[arg-type]
    assert db.execute("SELECT dbml.abandon_upload(%s)", (upload,)).fetchone() == (False,)
    db.execute(f"RESET ROLE; REVOKE dbml_scripter FROM {role}")  # type: ignore[arg-type]
    uploads.abandon(db, upload)


def test_what_nobody_comes_back_for_is_deleted(db: psycopg.Connection[Any]) -> None:
    begun, finished, used = os.urandom(30), os.urandom(30), os.urandom(30)
    upload = uploads.begin(db)
    uploads.send(db, upload, 0, begun)
    _upload(db, finished)
    db.execute("SELECT dbml.add_artifact(%s, 'used', %s)", (_run(db), _upload(db, used)))
    db.execute("UPDATE dbml._uploads SET started_at = now() - interval '25 hours'")
    uploads.begin(db)
    digests = [hashlib.sha256(content).digest() for content in (begun, finished, used)]
    left = db.execute("SELECT digest FROM dbml._chunks WHERE digest = any(%s)", (digests,)).fetchall()
    assert left == [(digests[2],)]
    assert [_kept(db, digest) for digest in digests] == [False, False, True]


def test_a_rolled_back_use_leaves_the_upload(db: psycopg.Connection[Any]) -> None:
    digest = _upload(db, os.urandom(10))
    run_id = _run(db)
    for end in ("ROLLBACK", "COMMIT"):
        db.execute("BEGIN")
        db.execute("SELECT dbml.add_artifact(%s, 'one', %s)", (run_id, digest))
        db.execute(end)  # type: ignore[arg-type]
    assert db.execute("SELECT count(*) FROM dbml.artifacts WHERE run_id = %s", (run_id,)).fetchone() == (1,)


def _upload_claimed(db: psycopg.Connection[Any], part: bytes, digest: bytes | None, whole: bytes) -> None:
    upload = uploads.begin(db)
    uploads.send(db, upload, 0, part, digest)
    uploads.finish(db, upload, whole, len(part))


def _run(db: psycopg.Connection[Any]) -> Any:
    return db.execute("SELECT dbml.start_run('uploads', lasting => true)").fetchone()[0]  # type: ignore[index]


def test_a_part_under_anothers_digest_is_no_gift_and_no_harm(db: psycopg.Connection[Any]) -> None:
    """A digest that a sender claims is not computed; where a lie meets the truth, each has its own bytes."""
    true, junk = os.urandom(1000), os.urandom(1000)
    claimed, own = hashlib.sha256(true).digest(), hashlib.sha256(junk).digest()
    _upload_claimed(db, junk, claimed, own)  # of the whole the digest is computed, and is right
    run_id = _run(db)
    db.execute("SELECT dbml.add_artifact(%s, 'junk', %s)", (run_id, own))
    read = "SELECT dbml.artifact_bytes(%s, %s)"
    with pytest.raises(errors.ModelLoadError, match="do not match their digest"):
        db.execute(read, (run_id, "junk"))
    with pytest.raises(errors.ModelLoadError, match="do not match their digest"):
        db.execute("SELECT dbml.artifact_part(%s, 'junk', 0)", (run_id,))
    assert db.execute("SELECT dbml.artifact_part(%s, 'junk', 0, checked => false)", (run_id,)).fetchone() == (junk,)
    _upload_claimed(db, true, claimed, claimed)
    db.execute("SELECT dbml.add_artifact(%s, 'true', %s)", (run_id, claimed))
    assert db.execute(read, (run_id, "true")).fetchone() == (true,)
    assert db.execute(read, (run_id, "junk")).fetchone() == (junk,)
    with pytest.raises(errors.ModelLoadError, match="is that of other bytes"):
        _upload_claimed(db, junk, claimed, own)
    with pytest.raises(errors.InvalidArgument, match="digest must be a SHA-256"):
        _upload_claimed(db, junk, b"short", own)
    db.execute("SELECT dbml.finish_run(%s), dbml.delete_run(%s)", (run_id, run_id))
