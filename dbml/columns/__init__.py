"""Columns: how rows travel between SQL and Python, shared by satellites and scorers.

decode reads what sql/10_channel/chunk.sql sends, frame makes a DataFrame of it; encode makes the array literals
that SQL unnests.  This package knows no process and no connection.
"""

from dbml.columns.decode import Decoded, decode_matrix, decode_rows
from dbml.columns.encode import Chunk, encode_array, encode_frame, encode_json_rows
from dbml.columns.frame import FrameBuilder, cut
from dbml.columns.kinds import JSON_NULL, Column
from dbml.columns.natural import column_list, natural_columns
from dbml.columns.results import as_frame

__all__ = [
    "JSON_NULL", "Chunk", "Column", "Decoded", "FrameBuilder", "as_frame", "column_list", "cut", "decode_matrix", "decode_rows",
    "encode_array", "encode_frame", "encode_json_rows", "natural_columns",
]  # fmt: skip
