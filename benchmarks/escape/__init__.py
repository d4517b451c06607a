"""Attacks on the sandbox, as scripts: each tries for something that its author must not have, and is looked after."""
