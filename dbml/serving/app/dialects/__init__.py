"""The dialects: how a request's bytes become rows, and scores an answer, in the words of three protocols."""
