"""The defects of stock WhisperLive, each with a probe that finds it in a running server, or finds it gone."""
