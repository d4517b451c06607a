"""`python -m dbml.cli`: the same as `dbml`, for whom the script is not on the PATH."""

from dbml.cli import main

main()
