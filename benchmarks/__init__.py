"""The figures that README quotes: each a command, each side by side with what a user would pick instead."""
