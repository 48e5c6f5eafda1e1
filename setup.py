"""What pyproject.toml cannot say of the build: a wheel holds committed weights and their records.

They lie in experiments/, beside the packages, and come into nestlib/committed. An editable install
reads them where they are (nestlib.project.find_committed).
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

EXPERIMENTS = Path("experiments")  # setuptools works in this folder
LARGEST_MB = 4  # of weights in a wheel; of larger ones it holds the SHA-256 alone
SUM = ".safetensors.sha256"


class BuildWithWeights(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        shutil.rmtree(self._committed, ignore_errors=True)  # of an earlier build
        for source in list_committed():
            target = self._committed / source.relative_to(EXPERIMENTS)
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))

    def get_source_files(self) -> list[str]:
        """What a source distribution needs, so that a wheel made of it is whole too."""
        return [*super().get_source_files(), *map(str, list_committed())]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        made = () if self.editable_mode else list_committed()
        targets = [str(self._committed / path.relative_to(EXPERIMENTS)) for path in made]
        return [*super().get_outputs(include_bytecode), *targets]

    @property
    def _committed(self) -> Path:
        return Path(self.build_lib, "nestlib", "committed")


def list_committed() -> Iterator[Path]:
    """The files of experiments/ that a wheel holds."""
    weights = EXPERIMENTS / "weights"
    for summed in sorted(weights.rglob(f"*{SUM}")):
        run_id = summed.relative_to(weights).as_posix().removesuffix(SUM)
        file = summed.with_suffix("")
        yield summed
        yield EXPERIMENTS / "records" / f"{run_id}.json"
        if file.is_file() and file.stat().st_size <= LARGEST_MB * 2**20:
            yield file


setup(cmdclass={"build_py": BuildWithWeights})
