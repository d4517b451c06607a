"""Choices that functions of datasets take."""

from __future__ import annotations

from enum import Enum


class PromoteHeadersBehavior(Enum):
    """Which files begin with a line of column names."""

    NO_HEADERS = 0
    ONLY_FIRST_FILE_HAS_HEADERS = 1
    COMBINE_ALL_FILES_HEADERS = 2
    ALL_FILES_HAVE_SAME_HEADERS = 3


class FileEncoding(Enum):
    """How a text file's bytes are letters; the value is Python's name of the codec."""

    UTF8 = "utf8"
    ISO88591 = "iso8859-1"
    LATIN1 = "latin-1"
    ASCII = "ascii"
    UTF16 = "utf-16"
    WINDOWS1252 = "cp1252"
