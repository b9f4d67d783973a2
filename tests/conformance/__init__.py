"""The published conformance suites of both guard languages, run on the engines as the product sets them up."""
