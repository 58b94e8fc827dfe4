"""What can be set, where it comes from, and whether it makes sense together.

`Settings` is the list, with a description and a bound for each; `load_settings` reads it from the
environment and a TOML file. A name that does not exist is refused, never ignored: a misspelt
setting would otherwise be a default that nobody chose.
"""

from ingest.settings.model import Settings
from ingest.settings.sources import CONFIG_VARIABLE, Loaded, load_settings, read_settings

__all__ = ["CONFIG_VARIABLE", "Loaded", "Settings", "load_settings", "read_settings"]
