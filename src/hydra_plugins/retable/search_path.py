"""A project's own conf/ beside the package's: its options join the packaged groups."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class RetableSearchPath(SearchPathPlugin):
    """Adds the folders of `retable.config.folders.project_folders` behind the package's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        from retable.config.folders import project_folders

        for folder in project_folders():
            search_path.append("project", f"file://{folder}")
