"""Fetches a published package with its registry's own client, once, pinned by version and SHA-256."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.local.jars import default_cache_dir

SECONDS_MAX = 240


@dataclass(frozen=True, slots=True)
class Package:
    """An archive of a registry: `client` fetches it into a folder and returns where it is."""

    name: str
    version: str
    sha256: str
    client: Callable[["Package", Path], Path]

    def read(self, member: str) -> bytes:
        """Return one file of the archive; raises where it cannot be fetched or is not what is pinned."""
        with tarfile.open(self._archive()) as archive:
            found = archive.extractfile(member)
            assert found is not None, f"{self.name} {self.version} has no {member}"
            return found.read()

    def _archive(self) -> Path:
        kept = default_cache_dir() / "conformance" / f"{self.name.replace('/', '-')}-{self.version}.tar.gz"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
                self._check(self.client(self, Path(folder))).replace(kept)
        return self._check(kept)

    def _check(self, archive: Path) -> Path:
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        assert digest == self.sha256, f"{archive} is not {self.name} {self.version} as it is pinned: {digest}"
        return archive


def npm(package: Package, folder: Path) -> Path:
    """Fetch with npm."""
    _run(["npm", "pack", f"{package.name}@{package.version}", "--silent"], folder)
    return next(folder.glob("*.tgz"))


def cargo(package: Package, folder: Path) -> Path:
    """Fetch with cargo, as the dependency of a crate that is nothing else."""
    (folder / "src").mkdir()
    (folder / "src" / "lib.rs").touch()
    crate = (
        f'[package]\nname = "conformance"\nversion = "0.0.0"\n[dependencies]\n{package.name} = "={package.version}"\n'
    )
    (folder / "Cargo.toml").write_text(crate, encoding="utf-8")
    _run(["cargo", "fetch", "--quiet"], folder)
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    fetched = next(home.glob(f"registry/cache/*/{package.name}-{package.version}.crate"))
    return Path(shutil.copy(fetched, folder))


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}"
