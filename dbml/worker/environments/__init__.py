"""Environments: packages other than the worker's own, locked once, built when first used, run by a zygote each.

    spec        what the user wrote -> requirements and a range of Python versions; conda: the translation
    machine     the Python versions that this machine has
    uv          the program that resolves and installs, as a process of its own
    resolver    requirements -> a lock with hashes
    builder     a lock -> a directory, built once
    zygotes     which of them run now
    call        the conversations with SQL: resolve, build

Nothing here imports what an environment holds, and no code of a package runs in this process.
"""
