"""The page of figures: `python -m benchmarks.report` writes docs/benchmarks.md with its plots.

`results` holds what was measured, `machine` says where, `alternatives` are what a user would pick instead, `parts` measure, one
function a part, and `page` writes Markdown and plots of it.
"""
