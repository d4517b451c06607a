"""What the kernel offers a process to cut itself off with: Landlock, system call filters, and what Python lacks of both.

Shared by the worker's sandbox and the scoring app; it travels into images with the latter, and imports nothing else of dbml.
"""
